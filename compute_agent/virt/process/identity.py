"""Whose process is whose guest.

The owner of a guest's run directory is the user that its process runs as. A confined guest has a user of its own, so
whatever it becomes, its process cannot pass for another guest's, nor hide. A guest of the agent's own user (where
guests are not confined) is told by a variable of its environment.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Collection
from pathlib import Path

from compute_agent.host.confinement.users import choose_user, owners_in
from compute_agent.host.processes import Process, ProcessEntry, find_processes, process_entries
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.settings import GUEST_UIDS, VirtSettings

_VARIABLE = "COMPUTE_AGENT_GUEST"

_allocation = threading.Lock()


def claim_user(settings: VirtSettings, paths: GuestPaths, hypervisor: HypervisorName) -> int:
    """Make the guest's directories and give it its user, the one it has or else one that is free.

    :raises InsufficientResources: all are taken.
    """
    with _allocation:
        uid = _user_of(settings, paths)
        paths.create(uid, hypervisor)
        return uid


def environment_of(paths: GuestPaths) -> dict[str, str]:
    """All that the guest's process finds in its environment."""
    return {_VARIABLE: str(paths.run)}


def find_guests(settings: VirtSettings, hypervisor: HypervisorName) -> dict[str, Process]:
    """The processes of all guests that a hypervisor has started here, by instance uuid."""
    ourselves, run_dir = os.geteuid(), settings.run_dir
    owners = {uid: uuid for uuid, uid in owners_in(run_dir, UUID_PATTERN).items() if uid != ourselves}

    def recognise(entry: ProcessEntry) -> str | None:
        uuid = _marked(entry, run_dir) if entry.uid == ourselves else owners.get(entry.uid or 0)
        return uuid if uuid and GuestPaths.of(settings, uuid).is_of(hypervisor) else None

    return find_processes(recognise)


def find_strangers(program: str, ours: Collection[int]) -> set[str]:
    """In words, the processes that execute the program and are none of `ours`, nor any that we have just begun."""
    path, us = os.path.realpath(shutil.which(program) or program), os.getpid()
    found = [one for one in process_entries() if one.program == path and one.pid not in ours]
    return {f"process {one.pid} of user {one.uid}, {path}" for one in found if one.parent not in (us, None)}


def _user_of(settings: VirtSettings, paths: GuestPaths) -> int:
    if not settings.confine_guests:
        return os.geteuid()
    ours = range(settings.guest_uid_base, settings.guest_uid_base + GUEST_UIDS)
    return choose_user(paths.run.name, owners_in(settings.run_dir, UUID_PATTERN), ours, "guests")


def _marked(entry: ProcessEntry, run_dir: Path) -> str | None:
    mark = Path(entry.variable(_VARIABLE) or "/")
    return mark.name if mark.parent == run_dir and re.fullmatch(UUID_PATTERN, mark.name) else None
