"""What goes from one machine's process to another's over a connection.

A greeting: a magic number, the version, the size of the guest's memory. Then sections: a kind, the length of what is in
it and its CRC-32. `Kind.PAGES` is a number of pieces of memory, the place and length of each, and what is in them, one
behind the other; `Kind.ZEROS` the same without the last; `Kind.STATE` a `MachineState`, which is the end. The other
side answers with `Kind.TAKEN`, or with `Kind.REFUSED` and why. Numbers are little-endian. Places are in the memfd.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from enum import StrEnum

from compute_agent.errors import MigrationFailed, RecordTooNew

VERSION = 1
"""Of all this, and of `MachineState`; a later one is refused."""
_MAGIC = b"CAGT-MIG"
_GREETING = struct.Struct("<8sQQ")
_SECTION = struct.Struct("<4sII")
_COUNT = struct.Struct("<I")
_PIECE = struct.Struct("<QQ")
MOST_BYTES = 1024**2
"""Of memory in one section."""
MOST_PIECES = 4096
"""In one section."""
_LONGEST = 64 * 1024**2
"""Bytes in a section."""

Wait = Callable[[int], None]
"""Told how many bytes have been carried; raises InterruptedError when there are to be no more."""


class Kind(StrEnum):
    """Of sections."""

    PAGES = "PAGE"
    ZEROS = "ZERO"
    STATE = "STAT"
    TAKEN = "TAKN"
    REFUSED = "REFU"


class Writer:
    """Raises OSError where the connection is gone."""

    def __init__(self, connection: socket.socket, carried: Wait) -> None:
        """:param carried: is told after each piece; it may take its time."""
        self._connection = connection
        self._carried = carried

    def greet(self, memory: int) -> None:
        """First of all."""
        self._connection.sendall(_GREETING.pack(_MAGIC, VERSION, memory))

    def write(self, kind: Kind, content: bytes | bytearray | memoryview) -> None:
        """A section, which does not change meanwhile."""
        header = _SECTION.pack(kind.encode(), len(content), zlib.crc32(content))
        self._connection.sendall(header)
        if content:  # whoever waits for the header only may have hung up
            self._connection.sendall(content)
        self._carried(len(content))


class Reader:
    """All raise MigrationFailed where what comes is not what is expected, or the connection is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def greet(self, memory: int) -> None:
        """First of all; `memory`: what there is room for.

        :raises RecordTooNew: a later version comes in.
        """
        magic, version, size = _GREETING.unpack(self._receive(_GREETING.size))
        if magic != _MAGIC:
            raise MigrationFailed(f"what comes in begins with {magic!r}: it is not a machine")
        if version > VERSION:
            raise RecordTooNew(f"a machine comes in as version {version}; this agent knows {VERSION}")
        if size != memory:
            raise MigrationFailed(f"a machine with {size} bytes of memory comes in, and {memory} are here")

    def read(self) -> tuple[Kind, memoryview]:
        """The next section."""
        name, length, checksum = _SECTION.unpack(self._receive(_SECTION.size))
        if length > _LONGEST:
            raise MigrationFailed(f"damaged on its way: a section of {length} bytes")
        content = self._receive(length)
        if zlib.crc32(content) != checksum:
            raise MigrationFailed(f"damaged on its way: this is not the {name!r} that was sent")
        try:
            return Kind(name.decode("latin-1")), content
        except ValueError:
            raise MigrationFailed(f"a section of an unknown kind comes in: {name!r}") from None

    def _receive(self, length: int) -> memoryview:
        content = memoryview(bytearray(length))
        place = 0
        while place < length:
            try:
                count = self._connection.recv_into(content[place:])
            except OSError as error:
                raise MigrationFailed(f"the connection to the other host is gone: {error}") from error
            if not count:
                raise MigrationFailed("the other host has hung up")
            place += count
        return content


def pack_pieces(pieces: Sequence[tuple[int, int]]) -> bytes:
    """Places and lengths."""
    return _COUNT.pack(len(pieces)) + b"".join(_PIECE.pack(*piece) for piece in pieces)


def unpack_pieces(content: memoryview, memory: int) -> tuple[list[tuple[int, int]], memoryview]:
    """The same, and what follows them.

    :raises MigrationFailed: one of them is beyond the memory.
    """
    (count,) = _COUNT.unpack_from(content) if len(content) >= _COUNT.size else (0,)
    end = _COUNT.size + count * _PIECE.size
    if end > len(content):
        raise MigrationFailed(f"damaged on its way: {count} pieces of memory in {len(content)} bytes")
    pieces = [(place, length) for place, length in _PIECE.iter_unpack(content[_COUNT.size : end])]
    for place, length in pieces:
        if place + length > memory:
            raise MigrationFailed(f"damaged on its way: memory at {place:#x}, beyond the machine's")
    return pieces, content[end:]
