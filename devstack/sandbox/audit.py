"""What the agent could have left on the machine, found by looking at the machine and not by asking the agent."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandbox import disk_audit, port_audit
from sandbox.node import Node
from sandbox.switch import Switch

_QEMU = re.compile(r"[^\0]*qemu")
_LONGEST_SHOWN = 100
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GUESTS_DESCRIPTORS = re.compile(r"/dev/net/tun|/dev/vhost-net|pidfd|memfd:|\(deleted\)")
"""What the agent has open for a guest and for nothing else."""


_PATIENCE = 5.0
"""Seconds: a thread of the agent's lets go of what it held a moment after it has said that it is done."""
_PATIENCE_WITH_CEPH = 90.0
"""A client that died counts for half a minute; what it had open may be tried again after 10, 30 and 70 s."""
_LOOK_AGAIN = 0.1


def leftovers(node: Node, switch: Switch) -> list[str]:
    """In words, all that belongs to guests; to be empty when every instance of the node has been terminated."""
    end = time.monotonic() + (_PATIENCE_WITH_CEPH if node.ceph else _PATIENCE)
    while (found := _look(node, switch)) and time.monotonic() < end:
        time.sleep(_LOOK_AGAIN)
    return found


def _look(node: Node, switch: Switch) -> list[str]:
    return [
        *(*_processes(node), *port_audit.difference(switch, []), *_files(node), *_descriptors(node)),
        *(*disk_audit.surplus(node, []), *disk_audit.waiting(node)),
    ]


def _processes(node: Node) -> Iterator[str]:
    """All that know the node's directory, but for the agent and its children that are no guests, nor another QEMU."""
    guests = node.qemu_pids()
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends meanwhile
            pid, command = int(directory.name), (directory / "cmdline").read_text()
            is_agents = node.pid in (pid, _parent(directory)) and pid not in guests and not _QEMU.match(command)
            if f"{node.directory}/" in command + (directory / "environ").read_text() and not is_agents:
                yield f"process {pid}: {' '.join(command.split(chr(0))).strip()[:_LONGEST_SHOWN]}"


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


def _files(node: Node) -> Iterator[str]:
    """Files and directories that are called after an instance; sockets too."""
    for place in ("state", "run"):
        for path in (node.directory / place).rglob("*"):
            if _UUID.search(path.name):
                yield f"file {path}"


def _descriptors(node: Node) -> Iterator[str]:
    for descriptor in Path(f"/proc/{node.pid}/fd").iterdir() if node.pid else ():
        target = str(descriptor.readlink())
        if _GUESTS_DESCRIPTORS.search(target):
            yield f"descriptor {descriptor.name} of the agent: {target}"
