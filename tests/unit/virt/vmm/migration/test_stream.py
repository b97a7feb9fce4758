"""What one machine's process tells another's: all of it arrives; nothing is taken that is not known, or not whole."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from compute_agent.errors import ComputeAgentError, MigrationFailed, RecordTooNew
from compute_agent.virt.kvm.pages import PAGE, PageSet, split_zeros
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.batch import Batch
from compute_agent.virt.vmm.migration.incoming import Incoming
from compute_agent.virt.vmm.migration.stream import VERSION, Kind, Reader, Writer, pack_pieces
from tests.unit.virt.vmm.parts import MIB

SIZE = 4 * MIB


class Link:
    """A machine's memory comes in, and what else it is."""

    def __init__(self) -> None:
        self.out, into = socket.socketpair()
        self.out.settimeout(10)
        self.here, self.there = GuestRam(SIZE), GuestRam(SIZE)
        self.became: list[bytes] = []
        self.incoming = Incoming(into, self.there, lambda content: self.became.append(bytes(content)))
        self.writer = Writer(self.out, lambda size: None)

    def arrive(self) -> None:
        """All that has been written, which is not much: the connection holds it."""
        self.out.shutdown(socket.SHUT_WR)
        self.incoming.carry()

    def fail(self) -> ComputeAgentError:
        with pytest.raises(ComputeAgentError) as raised:
            self.arrive()
        kind, reason = Reader(self.out).read()
        assert (kind, bytes(reason).decode()) == (Kind.REFUSED, str(raised.value))
        assert not self.became
        return raised.value

    def close(self) -> None:
        self.out.close()
        self.here.close()
        self.there.close()


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_pages_and_zeros_and_the_rest_arrive(link: Link) -> None:
    link.here.write(PAGE, b"a" * PAGE)
    link.here.write(5 * PAGE - 1, b"over an edge")
    link.there.write(2 * PAGE, b"was there" * 1000)
    link.writer.greet(SIZE)
    Batch(link.writer, link.here, with_zeros=True).send([range(6)])
    link.writer.write(Kind.STATE, b"the rest")
    link.arrive()
    assert link.there.read(0, SIZE) == link.here.read(0, SIZE)
    assert link.became == [b"the rest"]
    assert Reader(link.out).read()[0] is Kind.TAKEN


def test_another_thing_is_refused(link: Link) -> None:
    link.out.sendall(b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n")
    assert "is not a machine" in str(link.fail())


def test_a_later_version_is_refused(link: Link) -> None:
    link.out.sendall(struct.pack("<8sQQ", b"CAGT-MIG", VERSION + 1, SIZE))
    assert isinstance(link.fail(), RecordTooNew)


def test_another_size_of_memory_is_refused(link: Link) -> None:
    link.writer.greet(2 * SIZE)
    assert f"{2 * SIZE} bytes of memory" in str(link.fail())


def test_a_section_of_an_unknown_kind_is_refused(link: Link) -> None:
    link.writer.greet(SIZE)
    link.out.sendall(struct.pack("<4sII", b"NEWS", 0, 0))
    assert "unknown kind comes in: b'NEWS'" in str(link.fail())


def test_a_section_that_has_changed_on_its_way_is_refused(link: Link) -> None:
    link.writer.greet(SIZE)
    link.out.sendall(struct.pack("<4sII", b"PAGE", 3, 12345) + b"abc")
    assert "damaged on its way" in str(link.fail())


@pytest.mark.parametrize(
    "content",
    [
        pack_pieces([(SIZE - PAGE, 2 * PAGE)]) + bytes(2 * PAGE),
        pack_pieces([(0, PAGE)]) + bytes(PAGE - 1),
        struct.pack("<I", 1000),
        b"",
    ],
)
def test_pieces_that_make_no_sense_change_nothing(link: Link, content: bytes) -> None:
    link.writer.greet(SIZE)
    link.writer.write(Kind.PAGES, content)
    assert isinstance(link.fail(), MigrationFailed)
    assert link.there.read(0, SIZE) == bytes(SIZE)


def test_one_that_is_cut_off_is_refused(link: Link) -> None:
    link.writer.greet(SIZE)
    assert "has hung up" in str(link.fail())


def test_runs_of_pages_are_found() -> None:
    pages = PageSet(1000)
    for run in (range(1), range(63, 65), range(100, 300), range(999, 1000)):
        pages.add(run.start, run.stop)
    assert list(pages.runs()) == [range(1), range(63, 65), range(100, 300), range(999, 1000)]
    assert len(pages) == 1 + 2 + 200 + 1


def test_pages_of_zeros_are_told_from_others() -> None:
    with GuestRam(MIB) as ram:
        ram.write(3 * PAGE + PAGE - 1, b"x")
        ram.write(4 * PAGE, b"x")
        assert list(split_zeros(ram.content(0, 7 * PAGE))) == [(3 * PAGE, True), (2 * PAGE, False), (2 * PAGE, True)]
