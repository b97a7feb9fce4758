"""The agent's directories, and the program that makes disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.host.mounts import Mount, mount_of
from compute_agent.storage.network_files import REMEDY, refuses_guests
from compute_agent.storage.settings import StorageSettings

_LOST_ON_REBOOT = {"tmpfs", "ramfs"}
_OF_SEVERAL_HOSTS = {"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs", "9p"}
_ENOUGH = 2**30
"""Bytes that should be free beyond what is reserved."""
_GIB = 2**30
_FOR_THE_JOURNAL = 16 * 2**20
"""Bytes without which it may not be written at any moment."""
_QEMU_IMG_DEADLINE = 5.0


class Use(Enum):
    """What a directory is for."""

    STATE = auto()
    """It must survive a reboot and be on this host's own disks."""
    RUN = auto()
    """Sockets: it may be lost on a reboot."""
    DISKS = auto()
    """Disks and images: it needs much space."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One that an option names."""

    option: str
    path: Path
    use: Use
    reserved: int = 0
    """Bytes that the agent always leaves free."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a directory is, or would be made."""

    path: Path
    """The directory, or where it is not there yet the one that it would be made in."""
    mount: Mount
    free: int
    """Bytes."""
    fault: str | None
    """Why nothing can be made there."""


def check_directory(directory: Directory) -> list[Finding]:
    """Can the agent use it?"""
    if not directory.path.is_absolute():
        remedy = f"set {_setting(directory)} to an absolute path"
        return [failure(directory.option, f"{directory.path} is not absolute", remedy)]
    return [judge_directory(directory, _look(directory.path))]


def judge_directory(directory: Directory, place: Place) -> Finding:
    """`place` is what it is like there."""
    found = _describe(directory.path, place)
    if place.fault:
        remedy = f"mount and mend {place.path}; or set {_setting(directory)}"
        return failure(directory.option, f"{found}: {place.fault}", remedy)
    if place.free < _FOR_THE_JOURNAL and directory.use is Use.STATE:
        remedy = f"free some of {place.path}, or enlarge it"
        return failure(directory.option, f"{found}: the agent can note nothing, and takes no orders", remedy)
    if place.free < directory.reserved:
        found += f", of which {directory.reserved / _GIB:.1f} GiB are always left free"
        return failure(directory.option, f"{found}: boots are refused", f"free some of {place.path}, or enlarge it")
    if place.free < directory.reserved + _ENOUGH and directory.use is not Use.RUN:
        return warning(directory.option, f"{found}: little", f"free some of {place.path}, or enlarge it")
    return _judge_mount(directory, place.mount, found)


def check_image_sources(sources: Sequence[Path]) -> list[Finding]:
    """Are the directories there that images may be taken from?"""
    missing = [str(path) for path in sources if not path.is_dir()]
    if missing:
        found = f"not there: {', '.join(missing)}"
        return [warning("image_sources", found, f"mkdir -p {' '.join(missing)}; or set [storage] image_sources")]
    return [ok("image_sources", ", ".join(str(path) for path in sources) or "none: images come over the network only")]


def check_qemu_img(settings: StorageSettings) -> list[Finding]:
    """Does it run?"""
    command = [settings.qemu_img, "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_QEMU_IMG_DEADLINE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "apt install qemu-utils; or correct [storage] qemu_img"
        return [failure("qemu-img", f"{settings.qemu_img} does not run: {error}", remedy)]
    return [ok("qemu-img", done.stdout.partition("\n")[0].removeprefix("qemu-img version "))]


def _judge_mount(directory: Directory, mount: Mount, found: str) -> Finding:
    if directory.use is Use.DISKS and refuses_guests(mount):
        return failure(directory.option, f"{found}, NFS 4.2: guests cannot make holes in files", REMEDY)
    if directory.use is Use.STATE and mount.file_system in _OF_SEVERAL_HOSTS:
        remedy = f"set {_setting(directory)} to a local file system"
        return warning(directory.option, f"{found}: the journal's locks need a local file system", remedy)
    if directory.use is not Use.RUN and mount.file_system in _LOST_ON_REBOOT:
        remedy = f"set {_setting(directory)} to a file system on disk"
        return warning(directory.option, f"{found}: lost when the host reboots", remedy)
    return ok(directory.option, found)


def _look(path: Path) -> Place:
    where = next(candidate for candidate in (path, *path.parents) if candidate.exists())
    return Place(where, mount_of(where), shutil.disk_usage(where).free, _fault(where))


def _fault(path: Path) -> str | None:
    """Only making something shows whether it can be done: a file system may be read-only, or have no inodes left."""
    try:
        Path(tempfile.mkdtemp(prefix=".doctor-", dir=path)).rmdir()
    except OSError as error:
        return f"{error.strerror} in {path}"
    return None


def _describe(path: Path, place: Place) -> str:
    link = f" (to {os.path.realpath(path)})" if path.resolve() != path else ""
    absent = "" if place.path == path else ", not there yet"
    return f"{path}{link}{absent}, {place.mount.file_system}, {place.free / _GIB:.1f} GiB free"


def _setting(directory: Directory) -> str:
    section, _, name = directory.option.partition(".")
    return f"[{section}] {name}"
