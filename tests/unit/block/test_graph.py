"""Which block node is a disk's content, and which stand on which."""

from __future__ import annotations

from typing import Any

from compute_agent.block.graph import content_of, from_the_top

LAYERED = [
    ("disk0", "file", "disk0-1d0f2a"),
    ("disk0-1d0f2a", "backing", "disk0-00"),
    ("disk0-1d0f2a", "file", "disk0-1d0f2a-file"),
    ("disk0-00", "file", "disk0-00-file"),
]
COPIED = [
    ("disk0", "file", "disk0-before"),
    ("disk0-before", "file", "disk0-00"),
    ("disk0-before", "target", "disk0-kept"),
    ("#block12", "file", "disk0-then"),
    ("disk0-then", "file", "disk0-before"),
    ("#block12", "target", "disk0-copy"),
]


def graph(edges: list[tuple[str, str, str]]) -> dict[str, Any]:
    """As a monitor shows it; an export of the disk is in it too."""
    names = sorted({name for parent, _, child in edges for name in (parent, child)})
    nodes = [{"id": number, "type": "block-driver", "name": name} for number, name in enumerate(names)]
    nodes.append({"id": len(names), "type": "block-backend", "name": ""})
    known = [*edges, ("", "root", "disk0")]
    numbers = {str(node["name"]): node["id"] for node in nodes}
    shown = [{"parent": numbers[one], "name": kind, "child": numbers[other]} for one, kind, other in known]
    return {"nodes": nodes, "edges": shown}


def test_the_newest_layer_is_the_content() -> None:
    assert content_of(lambda _: graph(LAYERED), "disk0") == "disk0-1d0f2a"


def test_what_keeps_a_moment_is_not() -> None:
    assert content_of(lambda _: graph(COPIED), "disk0") == "disk0-00"


def test_nothing_is_closed_while_something_stands_on_it() -> None:
    for edges in (LAYERED, COPIED):
        found = from_the_top(lambda _, edges=edges: graph(edges))
        wanted = {name for parent, _, child in edges for name in (parent, child) if not name.startswith("#")}
        assert set(found) == wanted and len(found) == len(wanted), "all, and what belongs to a job is not ours"
        ours = [(parent, child) for parent, _, child in edges if parent in wanted]
        assert all(found.index(parent) < found.index(child) for parent, child in ours)
