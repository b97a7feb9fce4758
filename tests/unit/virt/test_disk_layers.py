"""What is handed to QEMU for the layers of a disk, against a monitor that remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compute_agent.block.names import layer_name
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.virt.qemu.disk_layers import QemuLayers
from compute_agent.virt.qemu.freezing import Freeze
from compute_agent.virt.qemu.moments import Moments

LAYER = "00000000-0000-4000-8000-0000000000c1"
LOWER, UPPER = "disk0-format", layer_name("disk0", LAYER)


class QemuWithLayer:
    """It writes to the layer, and has two descriptors of each file that nothing was opened from."""

    def __init__(self) -> None:
        self.left = {1: 2, 2: 2}
        """Descriptors, by set."""

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, fd: int | None = None) -> Any:
        arguments = arguments or {}
        if command == "x-debug-query-block-graph":
            names = ["disk0", UPPER, LOWER]
            edges = [{"parent": 0, "name": "file", "child": 1}, {"parent": 1, "name": "backing", "child": 2}]
            return {"nodes": [{"id": at, "name": name} for at, name in enumerate(names)], "edges": edges}
        if command == "query-named-block-nodes":
            storage = {f"{UPPER}-storage": 1, "disk0-storage": 2}
            return [{"node-name": name, "file": f"/dev/fdset/{number}"} for name, number in storage.items()]
        if command == "query-fdsets":
            return [{"fdset-id": number, "fds": [{}] * count} for number, count in self.left.items()]
        self.left[arguments["fdset-id"]] = 0 if command == "remove-fd" else self.left[arguments["fdset-id"]] + 1
        return {"fdset-id": arguments["fdset-id"]}


def nobody_freezes() -> Freeze:
    raise AssertionError


def test_nothing_stays_open_of_an_agent_that_died_when_the_guest_wrote_to_its_layer(tmp_path: Path) -> None:
    lower, upper = tmp_path / "disk0.qcow2", tmp_path / f"disk0.qcow2.{LAYER}"
    for path in (lower, upper):
        path.touch()
    below = FileSource(path=lower, format="qcow2")
    source = FileSource(path=upper, format="qcow2", backing=below, layer=LAYER)
    qemu = QemuWithLayer()
    QemuLayers(qemu.execute, lambda disk: disk, Moments(qemu.execute, nobody_freezes), 1.0).add(
        Disk(name="disk0", source=source)
    )
    assert qemu.left == {1: 0, 2: 0}
