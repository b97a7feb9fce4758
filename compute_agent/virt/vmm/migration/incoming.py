"""A machine of another host on its way into this process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from compute_agent.errors import ComputeAgentError, MigrationFailed
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.stream import Kind, Reader, Writer, unpack_pieces

_MOST_SAID = 1024
"""Bytes of a reason."""


class Incoming:
    """A `compute_agent.virt.vmm.carrier.Load`. Where it fails, what there is of the machine is of no use any more."""

    holds_still = True

    def __init__(self, connection: socket.socket, ram: GuestRam, become: Callable[[memoryview], None]) -> None:
        """It owns the connection. `ram` is new; `become` gets all but the memory, which is there then."""
        self._connection = connection
        self._ram = ram
        self._become = become
        self._received = 0
        self._is_cancelled = False

    def carry(self) -> None:
        writer = Writer(self._connection, lambda size: None)
        try:
            self._become(self._take())
            writer.write(Kind.TAKEN, b"")
        except ComputeAgentError as error:
            if self._is_cancelled:
                raise InterruptedError("the machine was not to come in any more") from error
            with suppress(OSError):  # the other host has hung up, or does so
                writer.write(Kind.REFUSED, str(error).encode()[:_MOST_SAID])
            raise
        finally:
            self._connection.close()

    def cancel(self) -> None:
        self._is_cancelled = True
        with suppress(OSError):  # it is not connected any more
            self._connection.shutdown(socket.SHUT_RDWR)

    def describe(self) -> Mapping[str, object]:
        return {"ram": {"transferred": self._received, "total": self._ram.size}}

    def _take(self) -> memoryview:
        """Fill the memory; what comes last."""
        reader = Reader(self._connection)
        reader.greet(self._ram.size)
        while (section := reader.read())[0] is not Kind.STATE:
            kind, content = section
            self._received += len(content)
            pieces, data = unpack_pieces(content, self._ram.size)
            if kind is Kind.PAGES:
                self._fill(pieces, data)
            elif kind is Kind.ZEROS:
                self._empty(pieces)
            else:
                raise MigrationFailed(f"a section comes in that has no place there: {kind}")
        return section[1]

    def _fill(self, pieces: list[tuple[int, int]], data: memoryview) -> None:
        if sum(length for _, length in pieces) != len(data):
            raise MigrationFailed(f"damaged on its way: {len(data)} bytes of memory are not those of its pieces")
        for place, length in pieces:
            self._ram.fill(place, data[:length])
            data = data[length:]

    def _empty(self, pieces: list[tuple[int, int]]) -> None:
        for place, length in pieces:
            self._ram.empty(place, length)
