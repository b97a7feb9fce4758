"""What stands on what among the block nodes of a process: snapshots and jobs change it under a disk's top node.

Nothing is read from any disk for this, so it is known also while storage does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compute_agent.host.qmp import Execute

BEFORE = "-before"
"""What the name of a node ends with that keeps what was there before a moment."""
_NO_CONTENT = ("-luks", BEFORE)


def child_of(execute: Execute, node: str) -> str:
    """What a node reads from that has one other below it."""
    return children(execute)[node]


def content_of(execute: Execute, top: str) -> str:
    """The node that reads as the disk's content, which is written to: in a disk with layers, the newest.

    What holds a LUKS container is content here, and its key's node is none; nor are those that jobs put in between.
    """
    below = children(execute)
    node = below[top]
    while not node.startswith(f"{top}-") or node.endswith(_NO_CONTENT):
        node = below[node]
    return node


def children(execute: Execute) -> Mapping[str, str]:
    """By node; of one that writes to several others, as jobs' do, the one that it reads from."""
    edges = _edges(execute("x-debug-query-block-graph"))
    return {parent: child for parent, name, child in edges if name in ("file", "backing")}


def from_the_top(execute: Execute) -> list[str]:
    """All nodes but those of jobs, which come and go with them; each before those that it stands on."""
    graph = execute("x-debug-query-block-graph")
    edges = _edges(graph)
    left = {str(node["name"]) for node in graph["nodes"] if node["type"] == "block-driver"}
    found: list[str] = []
    while left:
        stood_on = {child for parent, _, child in edges if parent in left}
        found += sorted(left - stood_on)
        left &= stood_on
    return [node for node in found if not node.startswith("#")]


def nodes(execute: Execute) -> dict[str, dict[str, Any]]:
    """By name, with what is known of each."""
    # Not query-block: it waits for storage that does not answer.
    return {node["node-name"]: node for node in execute("query-named-block-nodes", {"flat": True})}


def _edges(graph: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[tuple[str, str, str]]:
    """Parent, what it is to it, and child. Whoever uses a node without being one has a number for its name."""
    names = {node["id"]: str(node["name"]) for node in graph["nodes"]}
    return [(names[edge["parent"]], str(edge["name"]), names[edge["child"]]) for edge in graph["edges"]]
