"""What is answered in C, but for the serial port: tests/unit/virt/vmm/test_serial.py."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.exits import ExitReason
from tests.unit.virt.kvm.toy import Toy, toy

READ_TIMER = "ba 08 06 66 ed 66 89 c3 66 ed 66 89 1e 00 30 66 a3 04 30 e6 10"
"""Twice, to memory."""
RATE = 0.003579545
"""Ticks in a nanosecond."""


@pytest.fixture
def guest() -> Iterator[Toy]:
    with toy(log=-1) as one:
        yield one


@pytest.fixture
def board(guest: Toy) -> Board:
    assert guest.board
    return guest.board


def read_timer(guest: Toy) -> tuple[int, int]:
    guest.run_to_end(READ_TIMER)
    first, second = guest.memory.content[0x3000:0x3004], guest.memory.content[0x3004:0x3008]
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")


def test_the_timer_goes_on_and_python_sees_the_same(guest: Toy, board: Board) -> None:
    board.set_timer_ticks(0)
    before = board.timer_ticks()
    first, second = read_timer(guest)
    assert before <= first <= second <= board.timer_ticks()


def test_the_timer_runs_at_its_rate(board: Board) -> None:
    moments = [time.monotonic_ns()]
    started = board.timer_ticks()
    moments.append(time.monotonic_ns())
    while time.monotonic_ns() - moments[1] < 20_000_000:
        pass
    moments.append(time.monotonic_ns())
    ticks = board.timer_ticks() - started & 0xFFFFFFFF
    moments.append(time.monotonic_ns())
    least, most = (moments[2] - moments[1]) * RATE, (moments[3] - moments[0]) * RATE
    assert least - 2 <= ticks <= most + 2


def test_the_timer_is_set_and_wraps(guest: Toy, board: Board) -> None:
    board.set_timer_ticks(0x70000000)
    first, _ = read_timer(guest)
    assert 0x70000000 <= first < 0x78000000
    board.set_timer_ticks(0xFFFFFFFF)
    while board.timer_ticks() == 0xFFFFFFFF:
        pass
    assert read_timer(guest)[0] < 0x08000000


def test_a_byte_of_the_timer(guest: Toy, board: Board) -> None:
    board.set_timer_ticks(0x5A000000)
    assert guest.in_byte(0x60B) == 0x5A


def test_delays_and_the_debug_port_need_no_python(guest: Toy) -> None:
    assert guest.in_byte(0x402) == 0xFF
    guest.out_byte(0x80, 1)
    assert guest.vcpu.counters().answered == 2


@pytest.mark.parametrize("code", ["ba 02 04 ee", "ba 08 06 ee", "ba 0c 06 ec", "e4 80", "ba f7 03 ec", "ba 00 04 ec"])
def test_everything_else_comes_to_python(guest: Toy, code: str) -> None:
    guest.start(code)
    assert guest.run() == ExitReason.KVM_EXIT_IO
    assert guest.vcpu.counters().answered == 0


def test_without_a_board_all_exits_come() -> None:
    with toy() as guest:
        guest.start("e6 80")
        assert guest.run() == ExitReason.KVM_EXIT_IO
        assert guest.vcpu.shared.io.port == 0x80
