"""What a disk's nodes are called and how they are limited; the golden files show all of their options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compute_agent.errors import HostError
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.virt.qemu.block_nodes import (
    check_aio,
    disk_nodes,
    disk_of,
    group_name,
    limits,
    local_files,
    top_names,
)
from compute_agent.virt.qemu.devices import Properties

LONGEST_NAME = 31
"""That QEMU takes for a node."""


def a_disk(layers: int = 1) -> Disk:
    source = FileSource(path=Path("/images/base"), format="raw")
    for number in range(1, layers):
        source = FileSource(path=Path(f"/disks/{number}"), format="qcow2", backing=source)
    return Disk(name="disk99", source=source, passphrase=b"never shown")


def names(node: Properties) -> list[str]:
    """Of a node and all below it."""
    children = [node[key] for key in ("file", "backing") if isinstance(node.get(key), dict)]
    return [str(node["node-name"]), *(name for child in children for name in names(child))]  # type: ignore[arg-type]


def test_every_node_has_a_name_that_qemu_takes_and_no_other_has() -> None:
    disk, found = a_disk(layers=20), []
    for top in top_names(disk.name):
        opened = {name: "/dev/fdset/1" for name, _, _ in local_files(disk, top)}
        found += names(disk_nodes(disk, top, opened))
    assert len(found) == len(set(found)) == 2 * (2 + 2 * 20 - 1)
    assert max(len(name) for name in found) <= LONGEST_NAME


def test_top_nodes_tell_their_disk() -> None:
    assert [disk_of(top) for top in top_names("disk7")] == ["disk7", "disk7"]


def test_passphrase_is_in_no_description() -> None:
    disk = a_disk()
    nodes = disk_nodes(disk, "disk99", {"disk99-storage": "/dev/fdset/1"})
    assert "never" not in json.dumps(nodes) + repr(disk)


def test_nodes_over_a_connection_are_raw() -> None:
    disk = Disk(name="disk1", source=NbdSource(export="volume", fd=7))
    nodes = disk_nodes(disk, "disk1.b", {"disk1.b-storage": "descriptor"})
    assert names(nodes) == ["disk1.b", "disk1.b-format", "disk1.b-storage"]
    assert list(local_files(disk, "disk1.b")) == []


def test_limits_have_qemus_names_and_none_is_left_out() -> None:
    assert limits(None) == limits(DiskQos())
    found = limits(DiskQos(total_iops_sec=5, read_bytes_sec_max=7, write_iops_sec_max_length=3, size_iops_sec=9))
    assert len(found) == 3 * 6 + 1
    assert {name: value for name, value in found.items() if value not in (0, 1)} == {
        "iops-total": 5,
        "bps-read-max": 7,
        "iops-write-max-length": 3,
        "iops-size": 9,
    }


def test_disk_has_a_group_of_its_own_unless_it_shares_one() -> None:
    assert group_name("disk0", None) == group_name("disk0", DiskQos(read_iops_sec=1)) == "limits-disk0"
    assert group_name("disk0", DiskQos(group_name="disk0")) == "limits-group-disk0"


def test_io_uring_is_for_guests_that_are_not_confined() -> None:
    disk = Disk(name="disk0", source=FileSource(path=Path("/d"), format="raw"), aio="io_uring")
    check_aio(disk, confined=False)
    with pytest.raises(HostError, match="disk0: aio io_uring"):
        check_aio(disk, confined=True)
