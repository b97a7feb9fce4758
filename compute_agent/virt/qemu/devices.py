"""Disks, NICs and the root ports they are plugged into, as QEMU's JSON describes them.

A device is named as in the instance's machine (``disk0``, ``net0``); block nodes are called after their disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compute_agent.instance.devices import Disk, FileSource, NbdSource, Nic

Properties = dict[str, object]

_PORTS_A_SLOT = 8
_FIRST_SLOT = 0x10


def root_ports(count: int) -> Iterator[Properties]:
    """PCIe root ports ``rp0``, ``rp1``, …: a hot-pluggable device needs one of its own."""
    for index in range(count):
        slot, function = divmod(index, _PORTS_A_SLOT)
        address = f"{_FIRST_SLOT + slot:#x}.{function}"
        port: Properties = {"driver": "pcie-root-port", "id": f"rp{index}", "bus": "pcie.0", "addr": address}
        yield port | {"chassis": index + 1, "multifunction": function == 0}


def disk_backend(disk: Disk, file_name: Callable[[str], str]) -> Properties:
    """The block node of a disk with all that it stands on; formats are told, never probed.

    `file_name` says what QEMU opens for a block node.
    """
    if isinstance(disk.source, NbdSource):
        return _common("nbd", disk.name, disk.read_only) | _connection(disk.source)
    return _file_node(disk.source, disk.name, disk.read_only, file_name)


def _connection(source: NbdSource) -> Properties:
    return {"server": {"type": "fd", "str": str(source.fd)}, "export": source.export}


def _file_node(source: FileSource, name: str, read_only: bool, file_name: Callable[[str], str]) -> Properties:
    node = _common(source.format, name, read_only)
    if source.format == "qcow2":
        # An explicit null: whatever the header names as backing file is not opened.
        backing = source.backing
        node["backing"] = _file_node(backing, f"{name}-base", True, file_name) if backing else None
    storage: Properties = {"filename": file_name(name), "locking": "on"}
    return node | {"file": _common("file", f"{name}-file", read_only) | storage}


def _common(driver: str, name: str, read_only: bool) -> Properties:
    node: Properties = {"driver": driver, "node-name": name, "read-only": read_only}
    return node if read_only else node | {"discard": "unmap"}


def disk_device(disk: Disk, *, bootable: bool) -> Properties:
    """A full or failing host stops the guest instead of failing its writes: `cont` tries them again.

    No disk is `bootable` beside a kernel that is booted directly: that one takes boot index 0 for itself.
    """
    device: Properties = {"driver": "virtio-blk-pci", "id": disk.name, "drive": disk.name, "iothread": "iothread0"}
    device |= {"werror": "stop", "rerror": "stop"}
    if disk.serial:
        device["serial"] = disk.serial
    if bootable and disk.boot_index is not None:
        device["bootindex"] = disk.boot_index
    return device


def nic_backend(nic: Nic) -> str:
    """Numbers only, so nothing in it needs quoting."""
    backend = f"tap,id=tap-{nic.name},fds={_numbers(nic.tap_fds)}"
    return f"{backend},vhost=on,vhostfds={_numbers(nic.vhost_fds)}" if nic.vhost_fds else backend


def _numbers(fds: tuple[int, ...]) -> str:
    return ":".join(str(fd) for fd in fds)


def nic_device(nic: Nic) -> Properties:
    """Without a boot ROM: a guest boots from its disks or from the kernel it was given."""
    device: Properties = {"driver": "virtio-net-pci", "id": nic.name, "netdev": f"tap-{nic.name}", "romfile": ""}
    device |= {"mac": nic.mac_address, "host_mtu": nic.mtu}
    queues = len(nic.tap_fds)
    # One MSI-X vector for each direction of a queue pair, one for configuration, one for control.
    return device | {"mq": True, "vectors": 2 * queues + 2} if queues > 1 else device
