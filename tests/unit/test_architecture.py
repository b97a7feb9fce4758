"""Holds the imports to the arrows of docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import compute_agent

PACKAGE = Path(compute_agent.__file__).parent
LOWEST = {"errors", "instance", "host"}

# room -> the rooms that it may import besides itself
ARROWS = {
    "cli": {"rpc", "conf", "doctor", "agent", "virt", "network", "storage", *LOWEST},
    "conf": {"rpc", "agent", "doctor", "virt", "network", "storage", *LOWEST},
    "rpc": {"agent", *LOWEST},
    "agent": {"virt", "network", "storage", "block", *LOWEST},
    "doctor": {"virt", "network", "storage", *LOWEST},
    "virt": {"block", *LOWEST},
    "network": LOWEST,
    "storage": {"block", *LOWEST},
    "block": LOWEST,
    "instance": {"errors"},
    "host": {"errors"},
    "errors": set(),
}

# What reads a global configuration, or must never be there.
FORBIDDEN = {"oslo_config": {"cli", "conf", "rpc"}, "oslo_log": {"cli", "conf"}, "eventlet": set()}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem == "errors")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "compute_agent" and rest:
            target = rest.split(".")[0]
            assert target == room or target in ARROWS[room], f"{room} imports {name}"
        assert room in FORBIDDEN.get(top, {room}), f"{room} imports {name}"


def test_the_client_does_not_bring_the_agent_along() -> None:
    reachable, todo = set(), [PACKAGE / "rpc" / "client.py"]
    while todo:
        path = todo.pop()
        for name in imports_of(path):
            module = PACKAGE.parent / Path(*name.split("."))
            found = module.with_suffix(".py") if module.with_suffix(".py").exists() else module / "__init__.py"
            if name.startswith("compute_agent") and found.exists() and found not in reachable:
                reachable.add(found)
                todo.append(found)
    assert not {room_of(path) for path in reachable if path.parent != PACKAGE} & {"agent", "virt", "network", "storage"}
