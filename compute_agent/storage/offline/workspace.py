"""A copy of a disk in a directory that only we and the appliance's user can enter.

A disk's file belongs to root, and its appliance must not; and a copy can be thrown away when something fails half-way.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from compute_agent.errors import DeadlineExceeded, DiskInUse, InvalidConfiguration, StorageError
from compute_agent.host.durable import part_of, publish
from compute_agent.storage.file_locks import has_user, has_writer
from compute_agent.storage.files import BLOCK, require_present, require_space, storage_errors
from compute_agent.storage.inspection import require_self_contained
from compute_agent.storage.offline.appliance import WORK, user
from compute_agent.storage.qcow2.qemu_img import QemuImg

DiskFormat = Literal["qcow2", "raw"]

_APPLIANCE = 1024**3
"""Bytes that the appliance itself needs beside the copy."""

_QEMU_IMG = QemuImg("qemu-img", 60.0)


@contextmanager
def copied(path: Path, disk_format: DiskFormat, directory: Path, deadline: float) -> Iterator[Path]:
    """A copy of the disk, in a directory of its own below `directory`, that goes with the context.

    :raises InvalidConfiguration: the appliance's user cannot enter `directory`.
    :raises StorageError: this is not root, or the disk is not what it was declared to be, or names other files.
    :raises DiskInUse: a guest writes to it.
    :raises InsufficientResources: no space for the copy.
    :raises DeadlineExceeded: copying takes longer than until `deadline` (time.monotonic).
    """
    if os.geteuid() != 0:
        raise StorageError("only root can hand a disk over to another user: run this as root")
    with storage_errors(path):
        if has_writer(require_present(path)):
            raise DiskInUse(f"{path} is in use: a guest, or another program, writes to it")
        require_sound(path, disk_format)
        _require_open(directory)
        require_space(directory, path.stat().st_blocks * BLOCK + _APPLIANCE, 0)
        room = Path(tempfile.mkdtemp(prefix="compute-agent-", dir=directory))
        try:
            yield _copy(path, room, deadline)
        finally:
            shutil.rmtree(room)


def require_unused(path: Path) -> None:
    """:raises DiskInUse: somebody has the disk open, or other disks stand on it."""
    if has_user(path) or path.stat().st_nlink > 1:
        raise DiskInUse(f"{path} is in use: a guest has it open, or disks stand on it")


def require_sound(path: Path, disk_format: DiskFormat) -> None:
    """:raises StorageError: it is not what it was declared to be, or names other files, or its tables are broken."""
    require_self_contained(path, disk_format)
    if disk_format == "qcow2" and (problem := _QEMU_IMG.check(path)):
        raise StorageError(f"{path}: corrupt or truncated: {problem}")


def replace(path: Path, changed: Path, disk_format: DiskFormat) -> None:
    """Put a changed copy in the disk's place, all at once.

    :raises StorageError: it is not sound any more.
    :raises DiskInUse: somebody has begun to use the disk meanwhile.
    """
    with storage_errors(path):
        require_sound(changed, disk_format)
        status = path.stat()
        part = part_of(path)
        try:
            shutil.copyfile(changed, part)
            os.chown(part, status.st_uid, status.st_gid)
            part.chmod(status.st_mode & 0o7777)
            require_unused(path)
            publish(part, path)
        finally:
            part.unlink(missing_ok=True)


def _require_open(directory: Path) -> None:
    """The appliance's user has to find its way."""
    for one in (directory.resolve(), *directory.resolve().parents):
        if not require_present(one).stat().st_mode & stat.S_IXOTH:
            reason = f"{one} is closed to the user {user().pw_name}, who works on the copy"
            raise InvalidConfiguration("work_dir", str(directory), reason)


def _copy(path: Path, room: Path, deadline: float) -> Path:
    copy = room / "disk"
    command = ["cp", "--reflink=auto", "--sparse=always", "--", str(path), str(copy)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{path} could not be copied in time") from error
    if done.returncode != 0:
        raise StorageError(done.stderr.strip())
    copy.chmod(0o600)
    work = room / WORK
    work.mkdir(mode=0o700)
    for one in (copy, work):
        os.chown(one, user().pw_uid, user().pw_gid)
    # The directory stays ours: nobody but us can put a link in the copy's place.
    os.chown(room, 0, user().pw_gid)
    room.chmod(0o710)
    return copy
