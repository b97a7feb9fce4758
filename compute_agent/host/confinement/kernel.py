"""System calls that Python has no function for. Each raises OSError, and names what it was about."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

_CLONE_PARENT = 0x00008000
_SYS_CLONE, _SYS_PIVOT_ROOT, _SYS_SECCOMP = 56, 155, 317
"""Of x86-64."""
_MNT_DETACH = 2
_PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 15, 38
_MADV_NOHUGEPAGE = 15
_M_ARENA_MAX = -8
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc_without_threads = ctypes.PyDLL(None, use_errno=True)
"""Keeps Python's lock: what returns in a new process must find the interpreter as it was."""


def unshare(namespaces: int) -> None:
    """Leave these namespaces for new ones; a new PID namespace is for children only."""
    _check(_libc.unshare(namespaces), "unshare")


def setns(fd: int) -> None:
    """Enter the namespace that is open as `fd`."""
    _check(_libc.setns(fd, 0), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """As mount(2); what `kind` and `source` mean depends on the flags."""
    arguments = source.encode(), target.encode(), kind.encode() if kind else None
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount on {target}")


def change_root(directory: str) -> None:
    """Make a mounted directory the root, and let go of all that was outside it."""
    os.chdir(directory)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), f"pivot_root to {directory}")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def prctl(operation: int, *arguments: int) -> None:
    """As prctl(2)."""
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(operation, *padded), f"prctl {operation}")


def renounce_new_privileges() -> None:
    """For this process and all that it becomes: no program gives it more than it has."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def name_process(name: str) -> None:
    """What tools show of it: 15 bytes at most."""
    text = ctypes.create_string_buffer(name.encode())
    prctl(_PR_SET_NAME, ctypes.addressof(text))


def filter_all_threads(program: int) -> None:
    """Put every thread of this process under a filter of system calls, a ``struct sock_fprog`` at address `program`."""
    flags = ctypes.c_ulong(_SECCOMP_FILTER_FLAG_TSYNC)
    _check(_libc.syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, ctypes.c_ulong(program)), "seccomp")


def close_all_but(keep: Collection[int]) -> None:
    """Descriptors, whoever believes to have them open."""
    first = 0
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        if fd > first:  # Python 3.11 takes an empty range for all
            os.closerange(first, fd)
        first = fd + 1


def use_one_heap() -> None:
    """Threads that come share malloc's heap, which grows where it is, instead of getting one of 64 MiB each."""
    _libc.mallopt(_M_ARENA_MAX, 1)


def keep_pages_small() -> None:
    """Of all anonymous memory that this process has, and of its children's copies: no byte takes 2 MiB."""
    for mapping in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _, device, *_ = mapping.split(maxsplit=5)
        if permissions == "rw-p" and device == "00:00":
            start, end = (int(address, 16) for address in addresses.split("-"))
            advised = _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_NOHUGEPAGE)
            _check(advised, f"madvise of {addresses}")


def capset(header: ctypes.Array[ctypes.c_uint32], data: ctypes.Array[ctypes.c_uint32]) -> None:
    """As capset(2)."""
    _check(_libc.capset(header, data), "capset")


def fork_for_parent() -> int:
    """Fork, but the child's parent is ours: 0 in the child, its process id here.

    Only for a process without threads. A child that goes on in Python has to call `tell_python_of_fork`.
    """
    pid = _libc_without_threads.syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    _check(min(pid, 0), "clone")
    return int(pid)


def tell_python_of_fork() -> None:
    """For a child of `fork_for_parent` that executes no program, first of all: its locks and threads are its own."""
    ctypes.pythonapi.PyOS_AfterFork_Child.restype = None
    ctypes.pythonapi.PyOS_AfterFork_Child()


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
