"""The files that a guest's process sees: programs and libraries, read-only; a few devices; itself in /proc."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from compute_agent.host.confinement.kernel import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    change_root,
    mount,
    unshare,
)

_SITE = "/tmp"  # noqa: S108  any directory that is always there: it is mounted on, in our own namespace
_SYSTEM_ENTRIES = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Links into /usr on a merged system, directories on others."""
_LIBRARY_CACHE = "etc/ld.so.cache"
SOCKET_DIRECTORY = "/run"
"""Of a server."""
_EVERYBODYS_DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
_OWN_DEVICES = {"kvm": (10, 232)}


def prepare_room(trees: Iterable[str]) -> None:
    """Once, in the fork server: from here on only /usr, what belongs to it, and `trees` (directories) are there."""
    unshare(CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("room", _SITE, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    site = Path(_SITE)
    for name in ("proc", "dev", SOCKET_DIRECTORY[1:]):
        (site / name).mkdir()
    _copy_library_cache(site)
    for tree in dict.fromkeys(["/usr", *trees]):
        _show(tree)
    for name in _SYSTEM_ENTRIES:
        _show_system_entry(Path("/") / name, site / name)
    mount("none", _SITE, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    change_root(_SITE)


def furnish_room(uid: int, devices: Iterable[str]) -> None:
    """In the guest's process, which is in new mount and PID namespaces: its own /proc, and `devices` for user `uid`."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid")
    mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")
    for name, number in _EVERYBODYS_DEVICES.items():
        _make_device(name, number, 0o666, owner=0)
    for name in devices:
        _make_device(name, _OWN_DEVICES[name], 0o600, owner=uid)
    mount("none", "/dev", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def furnish_sockets(uid: int) -> None:
    """A place for the sockets that a server makes; others reach it through /proc."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("run", SOCKET_DIRECTORY, "tmpfs", flags, f"size=64k,nr_inodes=256,mode=700,uid={uid},gid={uid}")


def _show(tree: str) -> None:
    target = _SITE + tree
    os.makedirs(target, exist_ok=True)  # noqa: PTH103  pathlib gives parents another mode
    mount(tree, target, None, MS_BIND)
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _show_system_entry(entry: Path, here: Path) -> None:
    if entry.is_symlink():
        here.symlink_to(entry.readlink())
    elif entry.is_dir():
        _show(str(entry))


def _copy_library_cache(site: Path) -> None:
    """Without it the loader would try directory after directory for each library."""
    cache = Path("/") / _LIBRARY_CACHE
    if cache.exists():
        copy = site / _LIBRARY_CACHE
        copy.parent.mkdir()
        copy.write_bytes(cache.read_bytes())


def _make_device(name: str, number: tuple[int, int], mode: int, owner: int) -> None:
    path = f"/dev/{name}"
    os.mknod(path, stat.S_IFCHR | mode, os.makedev(*number))
    os.chown(path, owner, owner)
    os.chmod(path, mode)  # noqa: PTH101  beside its two sisters
