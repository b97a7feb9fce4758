"""The emulated machine of a host: QEMU's command line and process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.device import Device
from laboratory import image
from laboratory.settings import MTU, Site, host_name
from laboratory.underlay import tap_name
from sandbox.commands import SandboxError, run
from sandbox.notify import Readiness, tail

_BOOT = Path(__file__).with_name("host-boot")
_STATE_SIZE = "16G"
_START_TIMEOUT = 120.0


class Machine:
    """Off until `start`; its disk survives."""

    def __init__(self, site: Site, number: int) -> None:
        self._directory = site.directory / host_name(number)
        self.console_log = self._directory / "console.log"
        self.console_socket = self._directory / "console"
        self._number = number
        self._settings = site.settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Readiness) -> None:
        """Return when the host has said on `ready` that it is up.

        :raises SandboxError: with the end of its console, and what QEMU complains of; it is off.
        """
        self._make_state_disk()
        complaints = self._directory / "qemu.log"
        with complaints.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            ready.wait(self._process, _START_TIMEOUT, self.console_log)
        except SandboxError as error:
            self.kill()
            raise SandboxError(f"{host_name(self._number)}: {error}\n{tail(complaints)}") from error

    def kill(self) -> None:
        """Cut its power. Nothing happens where it is off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def state(self) -> str:
        """In a word or two."""
        if self._process is None:
            return "off"
        status = self._process.poll()
        return "on" if status is None else f"off: QEMU ended with status {status}"

    def _make_state_disk(self) -> None:
        """An empty file system in a sparse file, unless it is there."""
        if not self._state_disk.exists():
            run("mke2fs", "-q", "-t", "ext4", "-L", "state", self._state_disk, _STATE_SIZE)

    @property
    def _state_disk(self) -> Path:
        return self._directory / "state.img"

    def _command(self) -> list[str]:
        return [
            "qemu-system-x86_64",
            *("-name", host_name(self._number)),
            *("-machine", "q35"),
            *("-accel", "tcg,thread=multi"),
            *("-cpu", "max,la57=off"),
            *("-smp", str(self._settings.cpus)),
            *("-m", str(self._settings.memory_mib)),
            *("-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none"),
            *self._boot(),
            *self._devices(),
            *self._settings.qemu_arguments,
        ]

    def _boot(self) -> list[str]:
        """What is unknown to the kernel becomes environment of the first process."""
        own = f"LAB_BOOT={_BOOT} LAB_HOST={self._directory}"
        safe = "mitigations=off"  # a processor that is emulated does not speculate
        return [
            *("-kernel", str(image.kernel())),
            *("-initrd", str(image.ramdisk())),
            *("-append", f"console=ttyS0 panic=-1 quiet {safe} {_clock()} {self._settings.kernel_arguments} {own}"),
        ]

    def _devices(self) -> list[str]:
        console = f"socket,id=console,path={self.console_socket},server=on,wait=off,logfile={self.console_log}"
        return [
            *("-chardev", f"{console},logappend=on"),
            *("-serial", "chardev:console"),
            *("-virtfs", "local,path=/,mount_tag=machine,security_model=none,multidevs=remap,readonly=on"),
            *("-drive", f"file={self._state_disk},format=raw,if=none,id=state,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=state"),
            *("-netdev", f"tap,id=underlay,ifname={tap_name(self._number)},script=no,downscript=no"),
            *(
                "-device",
                f"virtio-net-pci,netdev=underlay,mac=52:54:00:78:00:0{self._number},host_mtu={MTU},romfile=",
            ),
            *("-device", "virtio-rng-pci"),
        ]


def _clock() -> str:
    """Tells the kernel how fast its time stamp counter, which is this machine's, runs: under load it measures wrong."""
    try:
        with Device() as device:
            return f"tsc_early_khz={device.tsc_khz()}"
    except KvmError:
        return ""  # there is no KVM here, nor need there be: the host's own is emulated
