"""The console ring with a writer that behaves as QEMU does, and the log on disk."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.host.processes import Process
from compute_agent.virt.process.console import Console
from compute_agent.virt.process.console_log import ConsoleLog
from compute_agent.virt.process.console_ring import RING_SIZE, ConsoleRing


@pytest.fixture
def ring() -> Iterator[ConsoleRing]:
    ring = ConsoleRing.create()
    ring.let_write()
    yield ring
    ring.close()


def test_takes_each_byte_once(ring: ConsoleRing) -> None:
    assert ring.take() == b""
    os.write(ring.shared, b"one")
    os.write(ring.shared, b"two")
    assert (ring.take(), ring.take()) == (b"onetwo", b"")


def test_never_ends_while_it_is_emptied(ring: ConsoleRing) -> None:
    line = b"x" * 999 + b"\n"
    for _ in range(3 * RING_SIZE // 100_000):
        os.write(ring.shared, line * 100)
        assert ring.take() == line * 100


def test_full_ring_refuses_more_and_goes_on_once_emptied(ring: ConsoleRing) -> None:
    os.write(ring.shared, b"x" * RING_SIZE)
    with pytest.raises(OSError) as refused:
        os.write(ring.shared, b"y")
    assert refused.value.errno == errno.EPERM
    with pytest.raises(PermissionError):
        os.ftruncate(ring.shared, 0)
    assert ring.take() == b"x" * RING_SIZE
    os.write(ring.shared, b"z")
    assert ring.take() == b"z"


def test_keeps_what_is_written_while_it_starts_over(ring: ConsoleRing, monkeypatch: pytest.MonkeyPatch) -> None:
    os.write(ring.shared, b"a" * (RING_SIZE // 2 + 1))
    seek = os.lseek

    def seek_late(fd: int, position: int, how: int) -> int:
        if how == os.SEEK_SET:
            os.write(fd, b"late")
        return seek(fd, position, how)

    monkeypatch.setattr(os, "lseek", seek_late)
    assert ring.take() == b"a" * (RING_SIZE // 2 + 1) + b"late"
    monkeypatch.undo()
    os.write(ring.shared, b"b")
    assert ring.take() == b"b"


def test_next_agent_takes_only_what_the_first_has_not(ring: ConsoleRing) -> None:
    log = os.open("/dev/null", os.O_WRONLY)
    process = Process.spawn(["sleep", "60"], {"PATH": "/bin"}, pass_fds=[ring.shared], log_fd=log)
    os.close(log)
    try:
        os.write(ring.shared, b"taken")
        ring.take()
        os.write(ring.shared, b"new")
        fcntl.fcntl(ring.shared, fcntl.F_SETFL, os.O_APPEND)
        successor = ConsoleRing.of(process)
        os.write(ring.shared, b"er")
        assert successor.take() == b"newer"
        successor.close()
    finally:
        process.kill()
        assert process.wait(10)


def test_log_keeps_the_newest_within_its_limit(tmp_path: Path) -> None:
    log = ConsoleLog(tmp_path / "console.log", 1000)
    written = b""
    for number in range(300):
        line = b"line %d\n" % number
        log.append(line)
        written += line
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1000
    assert len(log.tail(10_000)) >= 490
    assert written.endswith(log.tail(10_000))
    assert log.tail(600) == log.tail(10_000)[-600:]
    assert log.tail(5) == b" 299\n"
    assert log.tail(0) == b""


def test_log_takes_what_is_larger_than_itself(tmp_path: Path) -> None:
    log = ConsoleLog(tmp_path / "console.log", 1000)
    log.append(b"x" * 5000 + b"end")
    assert log.tail(10_000) == b"x" * 497 + b"end"


def test_console_drops_what_the_disk_refuses(ring: ConsoleRing, tmp_path: Path) -> None:
    directory = tmp_path / "later"
    console = Console(ring, ConsoleLog(directory / "console.log", 1000))
    os.write(ring.shared, b"lost")
    console.drain()
    directory.mkdir()
    os.write(ring.shared, b"kept")
    console.drain()
    assert (directory / "console.log").read_bytes() == b"kept"
