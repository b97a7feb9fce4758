"""Spoils good input, bytes or JSON values, a little or a lot."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Json = Any
"""Text, numbers, true, false, null, lists and objects."""

NUMBERS = (0, 1, -1, 7, 127, 255, 256, 4095, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**64 - 1)
TEXTS = (
    *("", " ", "\0", "\n", "a\nb", "\x7f\x9b\x85", "\u2028\ufeff", "\ud800", "é😀", "x" * 300, "9" * 20, "9" * 5000),
    *("../../etc/passwd", "/etc/shadow", "-monitor stdio", "x,file=/etc/passwd", '"}, {"a": "', "%s%n{0}", "$(reboot)"),
    *("file:///etc/shadow", "yes", "null", "1e3", "!!python/object:os.system x", "a: b\n- c", "#", "` - at `$.x`"),
)

_DEEPEST, _WIDEST = 10, 20


def spoil_bytes(random: Random, content: bytes, most: int = 8) -> bytes:
    """Up to `most` changes."""
    spoiled = bytearray(content)
    for _ in range(random.randint(1, most)):
        random.choice(_BYTE_CHANGES)(random, spoiled)
    return bytes(spoiled)


def _flip(random: Random, spoiled: bytearray) -> None:
    if spoiled:
        spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)


def _overwrite(random: Random, spoiled: bytearray) -> None:
    """A number that means something, of any width and order."""
    layout = random.choice("<>") + random.choice("BHIQ")
    size = struct.calcsize(layout)
    if len(spoiled) >= size:
        value = random.choice((*NUMBERS, random.getrandbits(64))) % (1 << 8 * size)
        struct.pack_into(layout, spoiled, _aligned(random, len(spoiled) - size), value)


def _aligned(random: Random, last: int) -> int:
    place = random.randint(0, min(last, random.choice((64, 512, 4096, last))))
    return place - place % random.choice((1, 1, 2, 4, 8))


def _cut(random: Random, spoiled: bytearray) -> None:
    del spoiled[random.randint(0, len(spoiled)) :]


def _remove(random: Random, spoiled: bytearray) -> None:
    start = random.randint(0, len(spoiled))
    del spoiled[start : start + random.randint(1, 16)]


def _insert(random: Random, spoiled: bytearray) -> None:
    start = random.randint(0, len(spoiled))
    spoiled[start:start] = random.randbytes(random.randint(1, 16))


def _repeat(random: Random, spoiled: bytearray) -> None:
    start = random.randint(0, len(spoiled))
    piece = spoiled[start : start + random.randint(1, 64)]
    spoiled[start:start] = piece * random.randint(1, 4)


_BYTE_CHANGES: Sequence[Callable[[Random, bytearray], None]] = (
    *(_flip, _overwrite, _overwrite, _overwrite),
    *(_cut, _remove, _insert, _repeat),
)


def any_value(random: Random) -> Json:
    """Whatever JSON can hold, and a little that it cannot."""
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(TEXTS)
    if kind < 5:
        return random.choice((*NUMBERS, 10**30, -(10**30), 1.5, -0.0, 1e308, float("nan"), float("inf")))
    return random.choice((None, True, False, [], {}, [[]] * 3, {"a": {"b": [None]}}, _nested(random.choice((5, 3000)))))


def _nested(depth: int) -> Json:
    value: Json = 0
    for _ in range(depth):
        value = [value]
    return value


def spoil_json(random: Random, value: dict[str, Json], most: int = 3) -> dict[str, Json]:
    """Changes up to `most` places of the value, which is spoiled itself."""
    for _ in range(random.randint(1, most)):
        holders = [holder for holder in _holders(value) if holder] or [value]
        _spoil_holder(random, random.choice(holders))
    return value


def _holders(value: Json, depth: int = 0) -> list[Json]:
    """Lists and objects in it, down to where good values have theirs."""
    if not isinstance(value, dict | list) or depth > _DEEPEST:
        return []
    parts = list(value.values()) if isinstance(value, dict) else value[:_WIDEST]
    return [value, *(holder for part in parts for holder in _holders(part, depth + 1))]


def _spoil_holder(random: Random, holder: Json) -> None:
    places = list(holder) if isinstance(holder, dict) else range(len(holder))
    place = random.choice(places) if places else None
    change = random.randrange(10)
    if place is None or change == 0:
        new = random.choice(TEXTS) if isinstance(holder, dict) else 0
        _put(random, holder, new, any_value(random))
    elif change == 1:
        del holder[place]
    elif change < 4 and isinstance(holder[place], str):
        holder[place] = _spoil_text(random, holder[place])
    elif change == 4 and isinstance(holder, list):
        holder.extend([holder[place]] * random.choice((1, 2, 100)))
    else:
        holder[place] = any_value(random)


def _put(random: Random, holder: Json, key: str | int, value: Json) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    else:
        holder.insert(random.randint(0, len(holder)), value)


def _spoil_text(random: Random, text: str) -> str:
    place = random.randint(0, len(text))
    return text[:place] + random.choice(TEXTS) + text[place + random.randint(0, 2) :]
