"""What the commands know of the lab that is up, in one small file.

Whoever keeps the lab has the file locked: it tells truly whether there is a lab, however the last one ended.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from sandbox.commands import SandboxError

_DEFAULT = "/run/compute-agent-lab.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A lab that is up."""

    pid: int
    """Of the process outside its namespaces; they end with it."""
    directory: str
    transport_url: str
    hosts: dict[str, str]
    """Name to address."""

    @property
    def first_process(self) -> int:
        """Process 1 of its namespaces, as seen from here."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])


def path() -> Path:
    """Where it is; the environment's COMPUTE_AGENT_LAB can name another place, for another lab."""
    return Path(os.environ.get("COMPUTE_AGENT_LAB") or _DEFAULT)


def reserve() -> TextIO:
    """The file, locked; whoever inherits the descriptor keeps the lock.

    :raises SandboxError: a lab is up already.
    """
    file = path().open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SandboxError("a lab is up already; `lab down` takes it down") from error
    file.truncate(0)
    return file


def write(file: TextIO, record: Record) -> None:
    """Into what `reserve` returned."""
    json.dump(asdict(record), file)
    file.flush()


def read() -> Record:
    """The lab that is up.

    :raises SandboxError: there is none, or it is not yet up.
    """
    try:
        with path().open() as file:
            text = file.read()
            if not _is_locked(file):
                path().unlink()
                raise SandboxError("the lab that was up has ended unasked; `lab up` starts another")
    except FileNotFoundError as error:
        raise SandboxError("no lab is up; `lab up` starts one") from error
    if not text:
        raise SandboxError("the lab is still being started")
    return Record(**json.loads(text))


def remove() -> None:
    """Nothing happens where it is gone."""
    path().unlink(missing_ok=True)


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
