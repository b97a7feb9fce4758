"""Which export and which node is whose."""

from __future__ import annotations

from compute_agent.storage.server.names import disk_of, export_of, from_the_top, grown, layer_name, newest, storage_name


def test_node_leads_to_its_disk() -> None:
    assert export_of("disk0.1024-base-file") == "disk0.1024"
    assert disk_of("disk0.1024") == "disk0"
    assert disk_of("disk0") == "disk0"


def test_nothing_is_closed_while_something_stands_on_it() -> None:
    contents = [layer_name("disk0", depth) for depth in range(17)]
    chain = ["disk0", *contents, *map(storage_name, contents)]
    assert from_the_top(reversed(chain)) == chain
    assert {disk_of(export_of(node)) for node in chain} == {"disk0"}
    longest = storage_name(layer_name(grown("disk99", 64 << 40), 16))
    assert len(longest) <= 31, "QEMU takes no longer name"


def test_largest_export_is_the_newest() -> None:
    exports = ["disk1", grown("disk1", 9 << 30), grown("disk1", 10 << 30), "disk10", grown("disk10", 99 << 30)]
    assert newest("disk1", exports) == f"disk1.{10 << 30}"
    assert newest("disk1", ["disk1", "disk10"]) == "disk1"
    assert newest("disk2", exports) is None
