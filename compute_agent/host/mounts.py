"""Which file system a path is on.

Source: Linux, Documentation/filesystems/proc.rst (``/proc/PID/mountinfo``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """One file system at one place."""

    point: str
    file_system: str
    """Its type, as ``mount -t`` has it."""
    options: frozenset[str]
    """The file system's own, such as ``vers=4.2``."""


def mount_of(path: Path, table: Path = _TABLE) -> Mount:
    """What the path is on when links have been followed. It need not be there."""
    return mount_holding(path.resolve(), table)


def mount_holding(path: Path, table: Path = _TABLE) -> Mount:
    """The last mount whose place holds the path, by its name alone: no file system is asked for anything."""
    found = Mount("", "unknown", frozenset())
    for line in table.read_text().splitlines():
        mount = _parse(line)
        if path.is_relative_to(mount.point) and len(mount.point) >= len(found.point):
            found = mount
    return found


def _parse(line: str) -> Mount:
    place, _, rest = line.partition(" - ")
    file_system, _, options = rest.split(" ", 2)
    return Mount(
        point=place.split()[4].encode().decode("unicode_escape"),
        file_system=file_system,
        options=frozenset(options.split(",")),
    )
