"""What would show that something is left finds it, and what does not belong to a node is none of its affair."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from sandbox import audit
from sandbox.node import Node
from sandbox.switch import Switch

PROBE = ("qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults", "-monitor", "none")
"""As an agent starts it to ask what QEMU can do; it tells it with its own environment."""


@contextmanager
def running(*words: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Its pid."""
    process = subprocess.Popen(words, env=os.environ | environment, stdin=subprocess.DEVNULL)
    try:
        yield str(process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("words", [PROBE, ("sleep", "1000")])
def test_a_process_that_an_agent_has_left_is_found(
    node: Node, switch: Switch, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PATIENCE", 0.0)
    with running(*words, environment={"NOTIFY_SOCKET": f"{node.directory}/notify"}) as pid:
        assert audit.leftovers(node, switch) == [f"process {pid}: {' '.join(words)}"]
    with running(*words, environment={}):
        assert audit.leftovers(node, switch) == []


def test_a_process_whose_command_line_names_the_node_is_found(
    node: Node, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PATIENCE", 0.0)
    with running("tail", "-f", str(node.log), environment={}) as pid:
        assert audit.leftovers(node, switch) == [f"process {pid}: tail -f {node.log}"]
