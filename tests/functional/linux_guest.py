"""A guest that a hypervisor is asked for directly, with a shell on its console: for what no message asks for."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import BootFiles, Disk, FileSource
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Flavor, Instance
from compute_agent.virt.contract import Guest, Hypervisor, StartRequest
from sandbox import images
from sandbox.commands import run
from tests.functional.guests import BOOT_SECONDS, until

_ANSWER = 60.0
"""Seconds; an emulated guest that writes some MiB takes a few."""

_numbers = count()


def an_image(path: Path, size: str = "64M", disk_format: str = "qcow2") -> FileSource:
    """A new disk of that size."""
    run("qemu-img", "create", "-q", "-f", disk_format, path, size)
    return FileSource(path=path, format="raw" if disk_format == "raw" else "qcow2")


class LinuxGuest:
    """A tiny guest, booted; it stays as it is when the agent (its hypervisor) changes."""

    def __init__(self, hypervisor: Hypervisor, disks: Sequence[Disk] = ()) -> None:
        devices = [BlockDevice(source_type="blank", size_gb=1, device_name=d.name, disk_bus=d.bus) for d in disks]
        self.instance = Instance(
            uuid=str(uuid.uuid4()),
            name="disks",
            flavor=Flavor(vcpus=1, memory_mb=128),
            block_devices=devices,
            config_drive=False,
        )
        self.hypervisor = hypervisor
        self.machine: Machine = hypervisor.design(self.instance)
        boot = BootFiles(kernel=images.kernel(), ramdisk=images.ramdisk(), command_line="console=ttyS0 quiet")
        hypervisor.start(StartRequest(instance=self.instance, machine=self.machine, disks=disks, nics=[], boot=boot))
        until(lambda: b"GUEST READY" in hypervisor.console_output(self.instance.uuid, 100_000), BOOT_SECONDS)
        self._console = socket.socket(socket.AF_UNIX)
        self._console.connect(str(hypervisor.console_socket(self.instance.uuid)))

    @property
    def guest(self) -> Guest:
        guest = self.hypervisor.adopt(self.instance.uuid)
        assert guest is not None
        return guest

    def attach(self, disk: Disk) -> None:
        """Find it a place, and plug it."""
        device = BlockDevice(source_type="blank", size_gb=1, device_name=disk.name, disk_bus=disk.bus)
        self.machine = self.hypervisor.add_disk(self.machine, device)
        self.guest.attach_disk(disk, self.machine)

    def detach(self, name: str) -> None:
        """Unplug it; its place is free again."""
        self.guest.detach_disk(name)
        self.machine = self.hypervisor.remove_device(self.machine, name)

    def run(self, command: str, seconds: float = _ANSWER) -> str:
        """What a command in the guest writes. It must succeed."""
        self.type(command)
        return self.answer(seconds)

    def type(self, command: str) -> None:
        """Let a command run; `answer` has what it writes."""
        self._number = next(_numbers)
        # Quotes tell what the command says from the shell's echo of it.
        line = f"echo SAYS''{self._number}; {{ {command}; }} 2>&1; echo SAID''{self._number} $?\n"
        self._console.sendall(line.encode())

    def answer(self, seconds: float = _ANSWER) -> str:
        """What the command wrote that was typed last. It must succeed."""
        end, heard = time.monotonic() + seconds, ""
        while not (found := re.search(rf"SAYS{self._number}\r?\n(.*)SAID{self._number} (\d+)\r?\n", heard, re.DOTALL)):
            self._console.settimeout(max(end - time.monotonic(), 0.001))
            heard += self._console.recv(65536).decode(errors="replace")
        said, status = found[1].replace("\r", "").strip(), int(found[2])
        assert status == 0, said
        return said

    def disk(self, serial: str) -> str:
        """The guest's name (``vdb``, ``sda``) for the disk with this serial number; empty where there is none."""
        if serial.startswith("scsi"):
            look = f"grep -l {serial} /sys/block/sd*/device/vpd_pg80"
        else:
            look = f"grep -lx {serial} /sys/block/vd*/serial"
        path = self.run(f"{look} || true")
        return path.split("/")[3] if path.startswith("/sys") else ""

    def await_disk(self, serial: str) -> str:
        """Wait for it, and its name."""
        return until(lambda: self.disk(serial))

    def sectors(self, disk: str) -> int:
        """Its size; 512 bytes each."""
        return int(self.run(f"cat /sys/block/{disk}/size"))

    def fill(self, disk: str, kilobytes: int, *, seek: int = 0) -> str:
        """Write random bytes, durably, and read them again from the disk: their SHA-256."""
        self.run(
            f"dd if=/dev/urandom of=/tmp/data bs=1k count={kilobytes}; "
            f"dd if=/tmp/data of=/dev/{disk} bs=1k seek={seek} conv=fsync; echo 3 > /proc/sys/vm/drop_caches"
        )
        return self.checksum(disk, kilobytes, seek=seek)

    def checksum(self, disk: str, kilobytes: int, *, seek: int = 0) -> str:
        """SHA-256 of a part of a disk."""
        command = f"dd if=/dev/{disk} bs=1k skip={seek} count={kilobytes} 2>/dev/null | sha256sum"
        return self.run(f"echo 3 > /proc/sys/vm/drop_caches; {command}").split()[0]

    def descriptors(self) -> list[str]:
        """The files that the guest's process has open, also those in memory only."""
        targets = (str(entry.readlink()) for entry in Path(f"/proc/{self.guest.pid}/fd").iterdir())
        return sorted(target for target in targets if target.startswith("/"))

    def end(self) -> None:
        """Nothing is left of it."""
        self._console.close()
        self.guest.kill()
        self.hypervisor.forget(self.instance.uuid)
