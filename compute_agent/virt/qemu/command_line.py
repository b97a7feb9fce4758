"""The arguments of a guest's QEMU, from the instance and its machine.

What an owner may write (names, kernel arguments) reaches QEMU as a whole argument, as JSON or with its
commas doubled: it cannot become an option.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from compute_agent.instance.devices import BootFiles
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.block_nodes import disk_nodes, secret_name, throttle_group, top_names
from compute_agent.virt.qemu.devices import Properties, bus_of, nic_backend, nic_device, root_ports
from compute_agent.virt.qemu.disks import SCSI_CONTROLLER, disk_device, iothread, scsi_controller

_CONSOLE_LOG_SET, _FIRST_FILE_SET = 1, 2
"""Numbers of QEMU's sets of descriptors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDescriptors:
    """Open descriptors that QEMU inherits under the same numbers: all that it has of the host."""

    monitor: int
    """The listening socket of its monitor."""
    console: int
    """That of its serial console."""
    guest_agent: int
    """That of the guest agent's channel."""
    console_log: int
    files: Mapping[str, int]
    """Those of the disks, by the names of their storage nodes."""
    connections: Mapping[str, int]
    """To block servers, likewise."""
    passphrases: Mapping[str, int]
    """By disk; read again for each machine that is made."""
    kernel: int | None = None
    ramdisk: int | None = None
    saved_state: int | None = None
    """Memory to load before the guest may run."""

    def all(self) -> list[int]:
        """In no particular order."""
        found = [getattr(self, field.name) for field in fields(self)]
        single = [fd for fd in found if isinstance(fd, int)]
        return single + [fd for group in found if isinstance(group, Mapping) for fd in group.values()]


def command_line(binary: str, request: StartRequest, fds: GuestDescriptors, iothreads: int) -> list[str]:
    """All arguments, the program first. The machine starts stopped: `cont` lets it run."""
    return [
        binary,
        *_process(request),
        *_machine(request),
        *_channels(fds),
        *_fixed_devices(iothreads),
        *_plugged_devices(request, fds, iothreads),
        *_boot(request.boot, fds),
        *(("-incoming", f"fd:{fds.saved_state}") if fds.saved_state is not None else ()),
        *(("-incoming", "defer") if request.is_incoming else ()),
    ]


def _process(request: StartRequest) -> list[str]:
    name = f"guest={_escape(request.instance.name)},debug-threads=on"
    # A guest that powers itself off leaves a paused process: whoever looks later can tell it from a crash.
    stay = "reboot=reset,shutdown=pause,panic=pause"
    return [
        *("-name", name, "-uuid", request.instance.uuid),
        *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"),
        *("-msg", "timestamp=on", "-action", stay, "-S"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
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


def _channels(fds: GuestDescriptors) -> list[str]:
    log = f"logfile={_descriptor_set(_CONSOLE_LOG_SET)},logappend=on"
    return [
        *("-chardev", f"socket,id=monitor,fd={fds.monitor},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
        *_add_descriptor(fds.console_log, _CONSOLE_LOG_SET, "console-log"),
        *("-chardev", f"socket,id=console,fd={fds.console},server=on,wait=off,{log}"),
        *("-chardev", f"socket,id=guest-agent,fd={fds.guest_agent},server=on,wait=off"),
    ]


def _add_descriptor(fd: int, number: int, what: str) -> tuple[str, str]:
    return "-add-fd", f"fd={fd},set={number},opaque={what}"


def _descriptor_set(number: int) -> str:
    """What QEMU opens in place of a file: the descriptor that it was given under this number."""
    return f"/dev/fdset/{number}"


def _fixed_devices(iothreads: int) -> Iterator[str]:
    """Those that every machine has and nobody unplugs: on the root bus, each with a slot of its own."""
    for index in range(iothreads):
        yield from _json("-object", iothread(index))
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


def _plugged_devices(request: StartRequest, fds: GuestDescriptors, iothreads: int) -> Iterator[str]:
    for port in root_ports(request.machine.root_ports):
        yield from _json("-device", port)
    yield from _disks(request, fds, iothreads)
    for nic in request.nics:
        yield from ("-netdev", nic_backend(nic))
        yield from _json("-device", nic_device(nic) | bus_of(request.machine, nic.name))


def _disks(request: StartRequest, fds: GuestDescriptors, iothreads: int) -> Iterator[str]:
    sets = {node: _FIRST_FILE_SET + index for index, node in enumerate(fds.files)}
    for node, fd in fds.files.items():
        yield from _add_descriptor(fd, sets[node], node)
    opened = {node: _descriptor_set(number) for node, number in sets.items()}
    opened |= {node: str(fd) for node, fd in fds.connections.items()}
    for disk, fd in fds.passphrases.items():
        yield from _json("-object", {"qom-type": "secret", "id": secret_name(disk), "file": _own_descriptor(fd)})
    for group in {str(group["id"]): group for group in map(throttle_group, request.disks)}.values():
        yield from _json("-object", group)
    if SCSI_CONTROLLER in request.machine.slots:
        yield from _json("-device", scsi_controller(request.machine, iothreads))
    for one in request.disks:
        top, _ = top_names(one.name)
        yield from _json("-blockdev", disk_nodes(one, top, opened))
        device = disk_device(one, top, request.machine, iothreads, bootable=request.boot is None)
        yield from _json("-device", device)


def _boot(boot: BootFiles | None, fds: GuestDescriptors) -> list[str]:
    if boot is None:
        return []
    ramdisk = () if fds.ramdisk is None else ("-initrd", _own_descriptor(fds.ramdisk))
    return ["-kernel", _own_descriptor(fds.kernel), *ramdisk, "-append", boot.command_line]


def _own_descriptor(fd: int | None) -> str:
    """A name for those parts of QEMU that know names only; it opens the file anew."""
    return f"/proc/self/fd/{fd}"


def _json(option: str, properties: Properties) -> tuple[str, str]:
    return option, json.dumps(properties, separators=(",", ":"))


def _escape(value: str) -> str:
    """A value inside a list of ``key=value`` pairs."""
    return value.replace(",", ",,")
