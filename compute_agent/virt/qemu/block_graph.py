"""What stands on what among the block nodes of a running QEMU: snapshots and jobs change it under a disk's top node."""

from __future__ import annotations

from collections.abc import Mapping

from compute_agent.virt.process.saving import Execute


def child_of(execute: Execute, node: str) -> str:
    """What a node reads from that has one other below it."""
    return _children(execute)[node]


def content_of(execute: Execute, top: str) -> str:
    """The node that reads as the disk's content, which is written to: in a disk with layers, the newest.

    What holds a LUKS container is content here, and its key's node is none; nor are those that jobs put in between.
    """
    children = _children(execute)
    node = children[top]
    while not node.startswith(f"{top}-") or node.endswith("-luks"):
        node = children[node]
    return node


def _children(execute: Execute) -> Mapping[str, str]:
    """By node; of one that writes to several others, as jobs' do, the one that it reads from."""
    graph = execute("x-debug-query-block-graph")
    names = {node["id"]: str(node["name"]) for node in graph["nodes"]}
    edges = [edge for edge in graph["edges"] if edge["name"] in ("file", "backing")]
    return {names[edge["parent"]]: names[edge["child"]] for edge in edges}
