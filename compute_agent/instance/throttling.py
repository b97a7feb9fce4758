"""Limits of disks, as the throttle groups of QEMU and of its storage daemon name them."""

from __future__ import annotations

from typing import Any

import msgspec

from compute_agent.instance.block_device import DiskQos

_OWN_LIMITS, _SHARED_LIMITS = "limits-", "limits-group-"
_NO_LIMITS = DiskQos()


def group_name(disk: str, qos: DiskQos | None) -> str:
    """The throttle group of a disk: its own, or the one that it shares."""
    return f"{_SHARED_LIMITS}{qos.group_name}" if qos and qos.group_name else f"{_OWN_LIMITS}{disk}"


def is_group(name: str) -> bool:
    """An object of this name is a throttle group."""
    return name.startswith(_OWN_LIMITS)


def is_shared(group: str) -> bool:
    """The throttle group has a name that an owner has given it."""
    return group.startswith(_SHARED_LIMITS)


def limits(qos: DiskQos | None) -> dict[str, Any]:
    """All limits as QEMU names them: one that is left out would stay as it was."""
    given = msgspec.structs.asdict(qos or _NO_LIMITS)
    return {_qemu_name(name): value for name, value in given.items() if name != "group_name"}


def _qemu_name(limit: str) -> str:
    """``total_bytes_sec_max_length`` is ``bps-total-max-length``, ``size_iops_sec`` is ``iops-size``."""
    direction, unit, _, *rest = limit.split("_")
    return "-".join(["bps" if unit == "bytes" else unit, direction, *rest])
