"""The clock, as a kernel and a firmware read and set it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.rtc import Register, Rtc

NOW = datetime(2031, 12, 29, 23, 58, 59, tzinfo=UTC)
FIELDS = (Register.SECONDS, Register.MINUTES, Register.HOURS, Register.DAY, Register.MONTH, Register.YEAR)


class Clock:
    """The host's."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def get(rtc: Rtc, register: int) -> int:
    rtc.write(0, 1, register)
    return rtc.read(1, 1)


def put(rtc: Rtc, register: int, value: int) -> None:
    rtc.write(0, 1, register | 0x80)  # with the NMI off, as kernels do
    rtc.write(1, 1, value)


def shown(rtc: Rtc) -> list[str]:
    return [f"{get(rtc, field):02x}" for field in FIELDS]


def test_it_shows_the_hosts_time() -> None:
    rtc = Rtc(Clock())
    assert shown(rtc) == ["59", "58", "23", "29", "12", "31"]
    assert get(rtc, Register.CENTURY) == 0x20
    assert get(rtc, Register.WEEKDAY) == 2
    assert get(rtc, Register.A) & 0x80 == 0
    assert get(rtc, Register.B) == 0x02
    assert get(rtc, Register.D) == 0x80


def test_a_guest_sets_it_and_it_goes_on() -> None:
    clock = Clock()
    rtc = Rtc(clock)
    put(rtc, Register.B, 0x82)
    assert get(rtc, Register.B) == 0x82
    for field, value in zip(FIELDS, (0x30, 0x00, 0x12, 0x01, 0x02, 0x27), strict=True):
        put(rtc, field, value)
    assert shown(rtc)[0] == "30"
    put(rtc, Register.B, 0x02)
    clock.now += timedelta(seconds=90)
    assert shown(rtc) == ["00", "02", "12", "01", "02", "27"]


def test_one_field_alone() -> None:
    rtc = Rtc(Clock())
    put(rtc, Register.HOURS, 0x07)
    assert shown(rtc) == ["59", "58", "07", "29", "12", "31"]


def test_what_is_no_date_changes_nothing() -> None:
    rtc = Rtc(Clock())
    put(rtc, Register.MONTH, 0x13)
    assert shown(rtc) == ["59", "58", "23", "29", "12", "31"]


def test_the_rest_is_memory() -> None:
    rtc = Rtc(Clock())
    put(rtc, 0x0F, 0x05)
    rtc.write(0, 2, 0x4450)
    assert get(rtc, 0x0F) == 0x05
    assert get(rtc, 0x50) == 0x44
    put(rtc, Register.D, 0)
    assert get(rtc, Register.D) == 0x80


def test_a_suspended_clock_is_not_late() -> None:
    clock = Clock()
    rtc = Rtc(clock)
    put(rtc, Register.HOURS, 0x07)
    put(rtc, 0x40, 7)
    again = Rtc(clock)
    again.restore(rtc.state())
    assert again.read(1, 1) == 7
    clock.now += timedelta(seconds=1)
    assert shown(again) == ["00", "59", "07", "29", "12", "31"]
    assert get(again, 0x40) == 7


def test_suspended_while_it_is_being_set() -> None:
    rtc = Rtc(Clock())
    put(rtc, Register.B, 0x82)
    put(rtc, Register.HOURS, 0x07)
    again = Rtc(Clock())
    again.restore(rtc.state())
    put(again, Register.B, 0x02)
    assert shown(again)[2] == "07"


@pytest.mark.parametrize("clock", [lambda: NOW, lambda: datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)])
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**16 - 1)), max_size=40))
def test_nothing_that_a_guest_writes_to_it_hurts(clock: Clock, accesses: list[tuple[int, int, int]]) -> None:
    rtc = Rtc(clock)
    for offset, size, value in accesses:
        rtc.write(offset, size, value & (1 << 8 * size) - 1)
        assert -1 <= rtc.read(offset, size) <= 0xFF
