"""Which export and which node is whose."""

from __future__ import annotations

from pathlib import Path

from compute_agent.instance.devices import FileSource
from compute_agent.storage.server.names import content_name, disk_of, export_of, file_name, grown, newest, storage_name


def test_node_leads_to_its_disk() -> None:
    assert export_of("disk0.1024-base-file") == "disk0.1024"
    assert disk_of("disk0.1024") == "disk0"
    assert disk_of("disk0") == "disk0"


def test_a_name_is_never_too_long() -> None:
    layer = FileSource(path=Path("/d"), format="qcow2", layer="0c0ffee0-0000-4000-8000-000000000001")
    for node in (file_name("disk99", layer, 0), content_name("disk99", 16), grown("disk99", 64 << 40)):
        assert export_of(node).startswith("disk99")
        assert len(storage_name(node)) <= 31, "QEMU takes no longer name"


def test_largest_export_is_the_newest() -> None:
    exports = ["disk1", grown("disk1", 9 << 30), grown("disk1", 10 << 30), "disk10", grown("disk10", 99 << 30)]
    assert newest("disk1", exports) == f"disk1.{10 << 30}"
    assert newest("disk1", ["disk1", "disk10"]) == "disk1"
    assert newest("disk2", exports) is None
