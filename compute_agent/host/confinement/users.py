"""A user of its own for each confined process: the owner of the process's directory, which is called after it.

Whatever such a process becomes, it cannot pass for another one, nor hide.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from compute_agent.errors import InsufficientResources


def owners_in(parent: Path, pattern: str) -> dict[str, int]:
    """The directories in `parent` with names like `pattern`, and the user that each belongs to."""
    owners = {}
    for entry in parent.iterdir():
        if re.fullmatch(pattern, entry.name):
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                owners[entry.name] = entry.stat().st_uid
    return owners


def choose_user(name: str, owners: Mapping[str, int], ours: Collection[int], whose: str) -> int:
    """The one of `ours` that `name` has, or else one that is free.

    :raises InsufficientResources: all are taken; `whose` says of what they are (``guests``).
    """
    former = owners.get(name)
    if former is not None and former in ours:
        return former
    taken = set(owners.values())
    uid = next((uid for uid in ours if uid not in taken), None)
    if uid is None:
        raise InsufficientResources(f"all {len(ours)} users for {whose} are taken")
    return uid
