"""Putting files, ssh keys and passwords into a disk that no guest has open: all of them, or nothing."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from msgspec import Struct

from compute_agent.errors import InvalidConfiguration, StorageError
from compute_agent.storage.offline.appliance import Appliance, user
from compute_agent.storage.offline.report import mount
from compute_agent.storage.offline.workspace import DiskFormat, copied, replace, require_unused

_PASSWD = "/etc/passwd"
_SHADOW = "/etc/shadow"
_DAY = 86400


class Changes(Struct, frozen=True, kw_only=True):
    """What to put into a disk, in this order."""

    files: list[tuple[Path, str]] = []
    """A local file, and its absolute path in the disk, where it will be root's."""
    ssh_keys: list[tuple[str, str]] = []
    """A user, and a public key that may log in as this user."""
    passwords: list[tuple[str, str]] = []
    """A user, and the new password."""


class _Account(Struct, frozen=True, kw_only=True):
    uid: str
    gid: str
    home: str


def change_disk(path: Path, disk_format: DiskFormat, changes: Changes, directory: Path, seconds: float) -> None:
    """Change a disk with one operating system; `directory` has room for a copy.

    :raises InvalidConfiguration: there is no such local file, or no such user in the disk; nothing has changed.
    :raises StorageError: it cannot be changed, and is as it was.
    :raises InsufficientResources: no space for the copy.
    :raises DeadlineExceeded: it takes longer than `seconds`; the disk is as it was.
    """
    deadline, path = time.monotonic() + seconds, path.resolve()
    with copied(path, disk_format, directory, deadline) as copy:
        require_unused(path)
        with Appliance(copy, disk_format, deadline, read_only=False) as disk:
            _mount_only_system(disk)
            _Change(disk, copy.parent).make(changes)
            disk.finish()
        replace(path, copy, disk_format)


def _mount_only_system(disk: Appliance) -> None:
    roots = disk.ask("inspect-os")
    if len(roots) != 1:
        raise StorageError(f"the disk holds {len(roots)} operating systems, and not one")
    mount(disk, roots[0], "mount")


class _Change:
    """In a mounted disk. Contents go through files in `room`, never through a command."""

    def __init__(self, disk: Appliance, room: Path) -> None:
        self._disk = disk
        self._room = room

    def make(self, changes: Changes) -> None:
        for local, remote in changes.files:
            self._copy(local, remote)
        for name, key in changes.ssh_keys:
            self._add_key(self._account(name), key)
        for name, password in changes.passwords:
            self._set_password(name, password)

    def _copy(self, local: Path, remote: str) -> None:
        try:
            content, mode = local.read_bytes(), local.stat().st_mode & 0o777
        except OSError as error:
            raise InvalidConfiguration("--copy", str(local), f"cannot be read: {error.strerror}") from error
        self._write(remote, content, mode, "0", "0")

    def _add_key(self, account: _Account, key: str) -> None:
        directory = f"{account.home}/.ssh"
        self._disk.ask("mkdir-p", directory)
        self._own(directory, 0o700, account.uid, account.gid)
        path = f"{directory}/authorized_keys"
        lines = self._disk.find("read-lines", path) or []
        if key not in lines:
            lines.append(key)
        self._write(path, "".join(f"{line}\n" for line in lines).encode(), 0o600, account.uid, account.gid)

    def _set_password(self, name: str, password: str) -> None:
        self._account(name)
        entries = [line.split(":") for line in self._disk.ask("read-lines", _SHADOW)]
        for entry in entries:
            if entry[0] == name:
                entry[1:3] = [hashed(password), str(int(time.time()) // _DAY)]
        content = "".join(":".join(entry) + "\n" for entry in entries).encode()
        (status,) = [self._disk.ask("stat", _SHADOW)]
        numbers = dict(line.split(": ", 1) for line in status)
        self._write(_SHADOW, content, int(numbers["mode"]) & 0o777, numbers["uid"], numbers["gid"])

    def _account(self, name: str) -> _Account:
        for line in self._disk.ask("read-lines", _PASSWD):
            fields = line.split(":")
            if fields[0] == name and len(fields) > 5:
                return _Account(uid=fields[2], gid=fields[3], home=fields[5])
        raise InvalidConfiguration("user", name, f"the disk's {_PASSWD} has no such user")

    def _write(self, remote: str, content: bytes, mode: int, uid: str, gid: str) -> None:
        staged = self._room / "staged"
        staged.touch(mode=0o640)
        os.chown(staged, 0, user().pw_gid)
        staged.write_bytes(content)
        self._disk.ask("upload", str(staged), remote)
        staged.unlink()
        self._own(remote, mode, uid, gid)

    def _own(self, remote: str, mode: int, uid: str, gid: str) -> None:
        self._disk.ask("chmod", f"0{mode:o}", remote)
        self._disk.ask("chown", uid, gid, remote)


def hashed(password: str) -> str:
    """As it stands in /etc/shadow: SHA-512, which every Linux knows.

    :raises StorageError: the password cannot be hashed.
    """
    crypt = ctypes.CDLL("libcrypt.so.1")
    crypt.crypt_gensalt.restype = crypt.crypt.restype = ctypes.c_char_p
    result = crypt.crypt(password.encode(), crypt.crypt_gensalt(b"$6$", 0, None, 0))
    if not result or result.startswith(b"*"):
        raise StorageError("the password cannot be hashed")
    return str(result.decode())
