"""What every part of KVM is: a descriptor that takes ioctls."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.requests import Request

CData = Any
"""A structure or pointer of cffi's."""


class KvmHandle:
    """Owns its descriptor, which `close` or the end of a ``with`` block closes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def ask(self, request: Request, argument: CData = ffi.NULL) -> int:
        """The kernel's answer, 0 or above.

        :param argument: a pointer to the request's structure, or a number where it takes one.
        :raises KvmError: it refuses; says which request and why.
        """
        if isinstance(argument, int):
            argument = ffi.cast("void *", argument)
        answer: int = lib.ioctl(self._fd, request, argument)
        if answer < 0:
            raise KvmError(request.name, os.strerror(ffi.errno))
        return answer

    def get_state(self, request: Request, structure: CData) -> bytes:
        """What the kernel fills the structure with, in its own form. :raises KvmError: as `ask` does."""
        self.ask(request, structure)
        return bytes(ffi.buffer(structure))

    def set_state(self, request: Request, structure: CData, state: bytes) -> None:
        """Give back what `get_state` has said for the same kind of structure.

        :raises KvmError: it is of another size, or the kernel refuses it.
        """
        buffer = ffi.buffer(structure)
        if len(state) != len(buffer):
            raise KvmError(request.name, f"a state of {len(state)} bytes instead of {len(buffer)}")
        buffer[:] = state
        self.ask(request, structure)
