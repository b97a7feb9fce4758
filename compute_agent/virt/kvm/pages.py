"""Sets of a guest's pages, such as those that were written; worked on in C, without Python's lock: `native/pages.h`."""

from __future__ import annotations

from collections.abc import Iterator

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.handle import CData

PAGE = int(lib.PAGE_BYTES)
_TOGETHER = 64
"""Pages in a word of a set."""


def words_of(pages: int) -> int:
    """How many a set of that many pages has, each of 8 bytes."""
    return -(-pages // _TOGETHER)


class PageSet:
    """Of pages that are numbered from 0; empty at first."""

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._words = words_of(pages)
        self._set = ffi.new("uint64_t[]", self._words)

    def __len__(self) -> int:
        count: int = lib.pages_count(self._set, self._words)
        return count

    def add(self, first: int, end: int) -> None:
        """Those from `first` to before `end`."""
        lib.pages_add(self._set, first, end)

    def take_from(self, log: CData, at: int, pages: int) -> None:
        """Move here what is in a log, a ``uint64_t *`` whose first page is number `at` here; others may write to it.

        :param at: a multiple of 64.
        """
        lib.pages_move(log, self._set + at // _TOGETHER, words_of(pages))

    def runs(self) -> Iterator[range]:
        """Pages that follow each other, in order."""
        end, place = ffi.new("size_t *"), 0
        while (first := lib.pages_run(self._set, self._pages, place, end)) < self._pages:
            yield range(first, end[0])
            place = end[0]


def split_zeros(memory: memoryview) -> Iterator[tuple[int, bool]]:
    """Lengths in bytes, in order, of pieces that are all zeros (True), or have something in each page (False).

    :param memory: whole pages, which may be changing.
    """
    start, pages, are_zeros = ffi.from_buffer(memory), len(memory) // PAGE, ffi.new("int *")
    done = 0
    while done < pages:
        count = lib.pages_alike(ffi.cast("uint8_t *", start) + done * PAGE, pages - done, are_zeros)
        yield count * PAGE, bool(are_zeros[0])
        done += count
