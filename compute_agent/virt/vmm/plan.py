"""What a machine's process is told: which machine to be, and the numbers of the descriptors that it has inherited."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class DiskPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A virtio-blk device."""

    name: str
    """``disk0``, ``config``."""
    slot: int
    """On the PCI bus, 2 to 31."""
    server: int
    """A socket, connected to the vhost-user-blk server."""
    boot_index: int | None = None
    """The firmware tries disks that have one, the lowest first."""


class NicPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A virtio-net device."""

    name: str
    """``net0``, …"""
    slot: int
    taps: Sequence[int]
    """A queue of the tap for each pair."""
    vhosts: Sequence[int]
    """An open /dev/vhost-net for each pair."""
    mac_address: str
    mtu: int


class KernelPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kernel that is booted without firmware; open files."""

    image: int
    ramdisk: int | None = None
    command_line: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it. Nothing else is known to the process; slot 1 of the bus has the source of randomness."""

    instance_uuid: str
    name: str
    memory: int
    """Bytes."""
    vcpus: int
    huge_pages: bool = False
    monitor: int
    """A socket that listens, for QMP."""
    console: int
    """A socket that listens, for the serial port."""
    console_log: int
    """A file: what the guest writes to its serial port is written at the file's position."""
    disks: Sequence[DiskPlan] = ()
    nics: Sequence[NicPlan] = ()
    kernel: KernelPlan | None = None
    """Where there is none, `firmware` boots from a disk."""
    firmware: int | None = None
    """An open file: SeaBIOS, as QEMU has it (``bios-256k.bin``)."""
    saved_state: int | None = None
    """An open file: the machine goes on from there, paused."""
    is_incoming: bool = False
    """The machine waits for another host's process to send what it is to be."""


def encode_plan(plan: Plan) -> str:
    """The process's one argument."""
    return msgspec.json.encode(plan).decode()


def decode_plan(argument: str) -> Plan:
    """What `encode_plan` has made."""
    return msgspec.json.decode(argument, type=Plan)
