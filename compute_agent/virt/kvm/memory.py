"""Memory that a guest sees."""

from __future__ import annotations

import mmap
from types import TracebackType
from typing import Self

from compute_agent.virt.kvm._binding import ffi


class GuestMemory:
    """Zeroed memory of ours; bytes are read and written as slices of `content`.

    It must outlive the machine that it is added to: close the machine first.
    """

    def __init__(self, size: int) -> None:
        """:param size: bytes, whole pages."""
        self.size = size
        self.content = mmap.mmap(-1, size)
        self._pointer = ffi.from_buffer(self.content)

    @property
    def host_address(self) -> int:
        """Where it is in our own address space."""
        return int(ffi.cast("uintptr_t", self._pointer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it back to the host. May be repeated."""
        ffi.release(self._pointer)
        self.content.close()
