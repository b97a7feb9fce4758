"""JSON objects out of a stream of bytes, which need not put anything between them.

Source: QEMU's docs/interop/qmp-spec.txt, 2.3 and 2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1024 * 1024
"""Bytes of one object. What the monitor is asked for takes some hundred."""

_INTERESTING = re.compile(rb'[{}\[\]"\\]')
_BRACKETS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_QUOTE, _BACKSLASH = ord('"'), ord("\\")


class TooLong(Exception):
    """An object has more than `LONGEST` bytes: what follows cannot be told apart any more."""


class Framing:
    """Cuts what has arrived where an object ends. Every byte is looked at once."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._looked = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Whole objects, in order; what stands outside of objects belongs to the next one, and spoils it.

        :raises TooLong: nothing more can be understood.
        """
        self._buffer += data
        while (end := self._find_end()) is not None:
            whole, self._buffer = bytes(self._buffer[:end]), self._buffer[end:]
            self._looked = 0
            yield whole.strip()
        if self._depth == 0 and not self._buffer.strip():
            self._buffer.clear()
            self._looked = 0
        if len(self._buffer) > LONGEST:
            raise TooLong

    def _find_end(self) -> int | None:
        while (found := _INTERESTING.search(self._buffer, self._looked)) is not None:
            self._looked = found.end()
            if self._is_end(found[0][0]):
                return self._looked
        self._looked = max(self._looked, len(self._buffer))
        return None

    def _is_end(self, byte: int) -> bool:
        """Whether this one closes an object."""
        if self._in_string:
            if byte == _BACKSLASH:
                self._looked += 1  # what it stands before means nothing here
            self._in_string = byte != _QUOTE
        elif byte == _QUOTE:
            self._in_string = self._depth > 0
        elif byte in _BRACKETS:
            self._depth = max(0, self._depth + _BRACKETS[byte])
            return self._depth == 0
        return False
