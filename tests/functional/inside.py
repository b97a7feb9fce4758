"""What somebody can do who has taken over a guest's process: system calls, made by the process itself.

The process is held with ptrace(2) in the system call that it waits in, and made to execute that instruction again with
other registers. Everything that confines it applies. Afterwards it goes on as if nothing had happened.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.functional.guests import until

AT_FDCWD = -100
CALLS = {
    "openat": 257,
    "socket": 41,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "ptrace": 101,
    "setuid": 105,
    "mknodat": 259,
    "mount": 165,
    "getpid": 39,
    "prlimit64": 302,
    "io_uring_setup": 425,
}

_SEIZE, _INTERRUPT, _GETREGS, _SETREGS, _SINGLESTEP, _DETACH = 0x4206, 0x4207, 12, 13, 9, 17
_WALL = 0x40000000
_SYSCALL_LENGTH = 2
_STOPPED_WITHIN = 10.0
_SCRATCH = 8192
"""Bytes below the stack that nothing uses."""

_libc = ctypes.CDLL(None, use_errno=True)


class Ended(Exception):
    """The process did not survive the system call; its argument is the signal that ended it."""


class _Registers(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_ulonglong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
            *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    ]


class Inside:
    """Holds the process's main thread; a context manager."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> Self:
        self._ptrace(_SEIZE)
        self._ptrace(_INTERRUPT)
        self._await_stop()
        self._before = _Registers()
        self._ptrace(_GETREGS, self._before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Ended):
            self._ptrace(_SETREGS, self._before)
            self._ptrace(_DETACH)

    def call(self, name: str, *arguments: int | str) -> int:
        """What the system call returns (an error is its number, negative); texts are put into the process's memory.

        :raises Ended: a filter has killed the process for it.
        """
        registers = _Registers.from_buffer_copy(self._before)
        values = [*self._in_memory(arguments), 0, 0, 0, 0, 0, 0]
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values, strict=False):
            setattr(registers, register, value & (2**64 - 1))
        registers.rax, registers.orig_rax = CALLS[name], 2**64 - 1
        registers.rip -= _SYSCALL_LENGTH
        self._ptrace(_SETREGS, registers)
        self._ptrace(_SINGLESTEP)
        self._await_stop()
        self._ptrace(_GETREGS, registers)
        return ctypes.c_longlong(registers.rax).value

    def _in_memory(self, arguments: tuple[int | str, ...]) -> list[int]:
        address, values = self._before.rsp - _SCRATCH, []
        with Path(f"/proc/{self._pid}/mem").open("r+b", buffering=0) as memory:
            for argument in arguments:
                if isinstance(argument, int):
                    values.append(argument)
                else:
                    memory.seek(address)
                    memory.write(argument.encode() + b"\0")
                    values.append(address)
                    address += 512
        return values

    def _await_stop(self) -> None:
        status = until(lambda: _reported(self._pid), _STOPPED_WITHIN)[0]
        if not os.WIFSTOPPED(status):
            raise Ended(signal.Signals(os.WTERMSIG(status)))

    def _ptrace(self, request: int, data: _Registers | None = None) -> None:
        pointer = ctypes.byref(data) if data is not None else None
        if _libc.ptrace(request, self._pid, None, pointer) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def _reported(pid: int) -> tuple[int] | None:
    """What wait(2) has to say of it, if anything."""
    found, status = os.waitpid(pid, _WALL | os.WNOHANG)
    return (status,) if found else None
