"""The arguments of a guest's QEMU, from the instance and its machine.

What an owner may write (names, kernel arguments) reaches QEMU as a whole argument, as JSON or with its
commas doubled: it cannot become an option.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compute_agent.instance.devices import BootFiles
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import UUID_PATTERN
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.devices import Properties, disk_backend, disk_device, nic_backend, nic_device, root_ports
from compute_agent.virt.qemu.paths import GuestPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDescriptors:
    """Open descriptors that QEMU inherits under the same numbers."""

    monitor: int
    """The listening socket of its monitor."""
    console: int
    """What its console log is written to."""
    saved_state: int | None = None
    """Memory to load before the guest may run."""


def command_line(binary: str, request: StartRequest, paths: GuestPaths, fds: GuestDescriptors) -> list[str]:
    """All arguments, the program first. The machine starts stopped: `cont` lets it run."""
    return [
        binary,
        *_process(request, paths),
        *_machine(request),
        *_channels(paths, fds),
        *_fixed_devices(),
        *_plugged_devices(request),
        *_boot(request.boot),
        *(("-incoming", f"fd:{fds.saved_state}") if fds.saved_state is not None else ()),
    ]


def instance_of(arguments: list[str], run_dir: Path) -> str | None:
    """The instance's uuid, where these are the arguments of a guest whose sockets are under `run_dir`.

    It holds on to no more than it must: guests of an older agent have to be recognised too.
    """
    if "-uuid" not in arguments[:-1]:
        return None
    uuid = arguments[arguments.index("-uuid") + 1]
    ours = f"path={_escape(str(run_dir / uuid))}/"
    return uuid if re.match(UUID_PATTERN, uuid) and any(ours in argument for argument in arguments) else None


def _process(request: StartRequest, paths: GuestPaths) -> list[str]:
    name = f"guest={_escape(request.instance.name)},debug-threads=on"
    # A guest that powers itself off leaves a paused process: whoever looks later can tell it from a crash.
    stay = "reboot=reset,shutdown=pause,panic=pause"
    return [
        *("-name", name, "-uuid", request.instance.uuid),
        *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"),
        *("-msg", "timestamp=on", "-action", stay, "-S"),
    ]


def _machine(request: StartRequest) -> list[str]:
    machine, flavor = request.machine, request.instance.flavor
    accelerator = "kvm" if machine.accelerator == "kvm" else "tcg,thread=multi"
    return [
        *("-machine", f"{machine.type},usb=off,vmport=off,dump-guest-core=off"),
        *("-accel", accelerator, "-cpu", machine.cpu),
        *("-smp", f"cpus={flavor.vcpus},sockets=1,cores={flavor.vcpus},threads=1"),
        *("-m", f"size={flavor.memory_mb}M", "-rtc", "base=utc", "-boot", "strict=on"),
    ]


def _channels(paths: GuestPaths, fds: GuestDescriptors) -> list[str]:
    agent_socket = _escape(str(paths.guest_agent_socket))
    return [
        *("-chardev", f"socket,id=monitor,fd={fds.monitor},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-add-fd", f"fd={fds.console},set=1", "-chardev", _console_backend(paths)),
        *("-chardev", f"socket,id=guest-agent,path={agent_socket},server=on,wait=off"),
    ]


def _console_backend(paths: GuestPaths) -> str:
    path = _escape(str(paths.console_socket))
    return f"socket,id=console,path={path},server=on,wait=off,logfile=/dev/fdset/1,logappend=on"


def _fixed_devices() -> Iterator[str]:
    """Those that every machine has and nobody unplugs: on the root bus, each with a slot of its own."""
    yield from _json("-object", {"qom-type": "iothread", "id": "iothread0"})
    yield from _json("-object", {"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"})
    yield from _json("-device", {"driver": "isa-serial", "id": "serial0", "chardev": "console"})
    yield from _json("-device", _on_root_bus("virtio-rng-pci", "rng0", "0x2") | {"rng": "entropy"})
    balloon = {"free-page-reporting": True, "deflate-on-oom": True}
    yield from _json("-device", _on_root_bus("virtio-balloon-pci", "balloon0", "0x3") | balloon)
    yield from _json("-device", _on_root_bus("virtio-serial-pci", "channels0", "0x4"))
    channel: Properties = {"bus": "channels0.0", "chardev": "guest-agent", "name": "org.qemu.guest_agent.0"}
    yield from _json("-device", channel | {"driver": "virtserialport", "id": "guest-agent0"})


def _on_root_bus(driver: str, name: str, address: str) -> Properties:
    return {"driver": driver, "id": name, "bus": "pcie.0", "addr": address, "disable-legacy": "on"}


def _plugged_devices(request: StartRequest) -> Iterator[str]:
    for port in root_ports(request.machine.root_ports):
        yield from _json("-device", port)
    for disk in request.disks:
        yield from _json("-blockdev", disk_backend(disk))
        device = disk_device(disk, bootable=request.boot is None)
        yield from _json("-device", device | _slot(request.machine, disk.name))
    for nic in request.nics:
        yield from ("-netdev", nic_backend(nic))
        yield from _json("-device", nic_device(nic) | _slot(request.machine, nic.name))


def _slot(machine: Machine, device: str) -> Properties:
    return {"bus": f"rp{machine.slots[device]}"}


def _boot(boot: BootFiles | None) -> list[str]:
    if boot is None:
        return []
    ramdisk = ("-initrd", str(boot.ramdisk)) if boot.ramdisk else ()
    return ["-kernel", str(boot.kernel), *ramdisk, "-append", boot.command_line]


def _json(option: str, properties: Properties) -> tuple[str, str]:
    return option, json.dumps(properties, separators=(",", ":"))


def _escape(value: str) -> str:
    """A value inside a list of ``key=value`` pairs."""
    return value.replace(",", ",,")
