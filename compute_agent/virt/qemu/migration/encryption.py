"""What is carried is encrypted: TLS with a key that only the two agents and their guest's processes know (RFC 4279).

The key is in a file (`compute_agent.block.keys`) in the guest's run directory, which a confined QEMU does not see; but
it has a descriptor of that directory.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from compute_agent.block.keys import CREDENTIALS, Endpoint, credentials, key_files
from compute_agent.errors import HostError, MonitorError
from compute_agent.host.qmp import Execute

_SET = 1
"""Of descriptors; there is no other."""


def use_key(execute: Execute, run: Path, key: str, endpoint: Endpoint) -> None:
    """Carry memory with this key from now on, and disks where they are told to use `CREDENTIALS`.

    :param run: the guest's run directory; its owner is the guest's process.
    :raises HostError: the key cannot be written.
    """
    forget_key(execute, run)
    try:
        directory = _open_directory(run, key)
    except OSError as error:
        raise HostError(f"the key of a migration cannot be written: {error}") from error
    try:
        number = execute("add-fd", {"fdset-id": _SET}, fd=directory)["fd"]
    finally:
        os.close(directory)
    execute("object-add", credentials(f"/proc/self/fd/{number}", endpoint))
    execute("migrate-set-parameters", {"tls-creds": CREDENTIALS})


def forget_key(execute: Execute, run: Path) -> None:
    """Nothing is encrypted any more. Nothing happens where nothing was."""
    execute("migrate-set-parameters", {"tls-creds": ""})
    with suppress(MonitorError):  # there is none
        execute("object-del", {"id": CREDENTIALS})
    with suppress(MonitorError):  # there is none, or the agent that added it has ended
        execute("remove-fd", {"fdset-id": _SET})
    shutil.rmtree(_place(run), ignore_errors=True)


def _open_directory(run: Path, key: str) -> int:
    owner, place = run.stat().st_uid, _place(run)
    place.mkdir(mode=0o700)
    for name, content in key_files(key).items():
        file = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        with os.fdopen(file, "w") as stream:
            stream.write(content)
            os.fchown(stream.fileno(), owner, -1)
    os.chown(place, owner, -1)
    return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _place(run: Path) -> Path:
    return run / "migration"
