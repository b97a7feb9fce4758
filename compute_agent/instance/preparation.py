"""Makes message types safe to be decoded by many threads."""

from __future__ import annotations

import msgspec


def prepare(*types: type) -> None:
    """Have msgspec look into these types now; call it while a module is imported, which one thread does.

    msgspec looks when a type is first decoded, and ends the process (SIGSEGV, seen with 0.22.0) when two
    threads get there at the same moment.
    """
    for one in types:
        msgspec.json.Decoder(one)
