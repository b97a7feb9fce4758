"""Pages on their way out, many together: the kernel is handed as much at once as makes sense."""

from __future__ import annotations

from collections.abc import Iterable

from compute_agent.virt.kvm.pages import PAGE, split_zeros
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.stream import MOST_BYTES, MOST_PIECES, Kind, Writer, pack_pieces


class Batch:
    """It is copied before it is sent: the guest writes to it meanwhile, and the sum has to be that of what goes."""

    def __init__(self, writer: Writer, ram: GuestRam, *, with_zeros: bool) -> None:
        """:param with_zeros: also tell of pages that are zeros; not needed where they cannot be anything else there."""
        self._writer = writer
        self._ram = ram
        self._with_zeros = with_zeros
        self._pieces: list[tuple[int, int]] = []
        self._content = bytearray()
        self._zeros: list[tuple[int, int]] = []

    def send(self, runs: Iterable[range]) -> None:
        """All of these pages.

        :raises OSError, InterruptedError: as `Writer`.
        """
        for run in runs:
            for start in range(run.start * PAGE, run.stop * PAGE, MOST_BYTES):
                self._add(start, min(MOST_BYTES, run.stop * PAGE - start))
        self._send_pieces()
        self._send_zeros()

    def _add(self, place: int, length: int) -> None:
        for size, is_zero in split_zeros(self._ram.content(place, length)):
            if not is_zero:
                self._add_piece(place, size)
            elif self._with_zeros:
                self._add_zeros(place, size)
            place += size

    def _add_piece(self, place: int, length: int) -> None:
        self._pieces.append((place, length))
        self._content += self._ram.content(place, length)
        if len(self._content) >= MOST_BYTES or len(self._pieces) >= MOST_PIECES:
            self._send_pieces()

    def _add_zeros(self, place: int, length: int) -> None:
        self._zeros.append((place, length))
        if len(self._zeros) >= MOST_PIECES:
            self._send_zeros()

    def _send_pieces(self) -> None:
        if self._pieces:
            self._writer.write(Kind.PAGES, pack_pieces(self._pieces) + self._content)
            self._pieces, self._content = [], bytearray()

    def _send_zeros(self) -> None:
        if self._zeros:
            self._writer.write(Kind.ZEROS, pack_pieces(self._zeros))
            self._zeros = []
