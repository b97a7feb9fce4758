"""Objects come out of a stream as they went in, wherever it is cut; anything else does no harm."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.monitor.framing import Framing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=3)
NASTY = st.text(alphabet='{}[]"\\ a\n', max_size=40).map(str.encode)


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


@given(st.lists(OBJECTS, max_size=4), st.integers(1, 50), st.sampled_from([b"", b"\r\n", b"  "]), st.booleans())
def test_objects_come_out_whole(objects: list[object], size: int, between: bytes, ascii_only: bool) -> None:
    stream = between.join(json.dumps(one, ensure_ascii=ascii_only).encode() for one in objects) + between
    framing = Framing()
    found = [json.loads(text) for piece in pieces(stream, size) for text in framing.feed(piece)]
    assert found == objects


@given(st.lists(NASTY | st.binary(max_size=40), max_size=8))
def test_nothing_is_lost_or_made_up(chunks: list[bytes]) -> None:
    framing = Framing()
    found = b"".join(text for chunk in chunks for text in framing.feed(chunk))
    stream = b"".join(chunks)
    assert stream.translate(None, b" \t\r\n\v\f").startswith(found.translate(None, b" \t\r\n\v\f"))
