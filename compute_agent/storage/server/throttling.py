"""Limits of the disks of one block server. Disks with the same group name share theirs."""

from __future__ import annotations

from contextlib import suppress

from compute_agent.errors import StorageError
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.throttling import group_name, is_group, limits
from compute_agent.storage.server.control import Control


def set_limits(control: Control, disk: str, qos: DiskQos | None) -> None:
    """The throttle group of such a disk is there, and has these limits. Raises as `Control.execute`."""
    group = group_name(disk, qos)
    if group not in control.objects():
        control.execute("object-add", {"qom-type": "throttle-group", "id": group})
    control.execute("qom-set", {"path": f"/objects/{group}", "property": "limits", "value": limits(qos)})


def forget_unused_limits(control: Control) -> None:
    """Remove throttle groups that no disk is in."""
    for group in filter(is_group, control.objects()):
        with suppress(StorageError):  # only the server knows who uses it, and refuses while somebody does
            control.execute("object-del", {"id": group})
