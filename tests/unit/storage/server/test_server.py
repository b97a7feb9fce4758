"""A block server's exports and the images that are open for them, whatever an agent that was killed has left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from compute_agent.host.processes import Process
from compute_agent.host.qmp import MonitorLoop
from compute_agent.storage.rbd.credentials import Credentials
from compute_agent.storage.server import server as module
from compute_agent.storage.server.admission import Admissions
from compute_agent.storage.server.exports import RbdExport
from compute_agent.storage.server.opening import Opening
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.server import BlockServer
from compute_agent.storage.server.settings import BlockServerSettings


class FakeControl:
    """Stands for the monitor of a process; an export stands on the node of its name."""

    def __init__(self, *nodes: str, served: list[str]) -> None:
        self._nodes, self._exports = list(nodes), served

    def execute(self, command: str, arguments: Mapping[str, Any]) -> None:
        if command == "block-export-del":
            self._exports.remove(arguments["id"])
        elif command == "block-export-add":
            self._exports.append(arguments["id"])
        elif command == "blockdev-del":
            self._nodes.remove(arguments["node-name"])

    def exports(self) -> dict[str, str]:
        return dict.fromkeys(self._exports, "nbd")

    def nodes(self) -> list[str]:
        return list(self._nodes)

    def open_image(self, name: str) -> None:
        self._nodes.append(name)


@pytest.fixture
def export(tmp_path: Path) -> RbdExport:
    credentials = Credentials(conf=tmp_path, key="")
    return RbdExport(name="disk1", pool="volumes", image="one", user="compute", credentials=credentials)


def a_server(control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlockServer:
    monkeypatch.setattr(module, "Control", lambda *_: control)
    monkeypatch.setattr(Opening, "open", lambda self, name, export: control.open_image(name))
    settings = BlockServerSettings(run_dir=tmp_path, program="none", uid_base=0)
    loop, process = cast(MonitorLoop, None), cast(Process, None)
    return BlockServer(process, ServerPaths(tmp_path), loop, settings, Admissions())


def test_a_grown_disk_leaves_no_image_open_for_an_export_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: RbdExport
) -> None:
    """The agent before was killed when it had ended the first export and not closed its image."""
    control = FakeControl("disk0", "disk1", "disk1.2", served=["disk0", "disk1.2"])
    a_server(control, tmp_path, monkeypatch).resize(export, 3)
    assert control.nodes() == ["disk0", "disk1.2", "disk1.3"]
    assert list(control.exports()) == control.nodes()
