"""A machine's saved state: what comes back is what was, and nothing is taken that is not whole."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import pytest

from compute_agent.errors import InvalidImage, RecordTooNew
from compute_agent.virt.kvm.board import Board
from compute_agent.virt.vmm.chipset import Chipset
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.processor_set import ProcessorSetState, ProcessorState
from compute_agent.virt.vmm.saved_state import VERSION, MachineState, read_state, write_state
from compute_agent.virt.vmm.serial import SerialPort
from tests.unit.virt.vmm.parts import MIB, KvmRecord

SIZE = 16 * MIB
WRITTEN = {0: b"first", 5 * MIB - 2: b"over an edge", SIZE - 4: b"last"}


@pytest.fixture
def ram() -> Iterator[GuestRam]:
    with GuestRam(SIZE) as ram:
        yield ram


@pytest.fixture
def fresh() -> Iterator[GuestRam]:
    """The memory of the machine that goes on."""
    with GuestRam(SIZE) as ram:
        yield ram


def a_state() -> MachineState:
    board = Board(-1, -1)
    chipset = Chipset(
        Interrupts(KvmRecord()), board, reset=lambda: None, power_off=lambda: None, eject=lambda slot: None
    )
    processor = ProcessorState({"REGISTERS": b"\0\xff" * 9}, {0x10: 2**63})
    return MachineState(
        memory=SIZE,
        processors=ProcessorSetState([processor], [b"chip"], b"timer", 12345),
        chipset=chipset.state(),
        serial=SerialPort(board).state(),
        devices={},
    )


def saved(ram: GuestRam) -> bytes:
    for address, content in WRITTEN.items():
        ram.write(address, content)
    file = io.BytesIO()
    write_state(file, a_state(), ram, lambda written: True)
    return file.getvalue()


def test_what_comes_back_is_what_was(ram: GuestRam, fresh: GuestRam) -> None:
    content = saved(ram)
    state = read_state(io.BytesIO(content), fresh)
    assert (state.processors, state.memory, state.devices) == (a_state().processors, SIZE, {})
    assert fresh.read(0, SIZE) == ram.read(0, SIZE)


def test_memory_that_the_guest_has_not_touched_takes_no_room(ram: GuestRam) -> None:
    assert len(saved(ram)) < MIB


def test_it_can_be_left_off(ram: GuestRam) -> None:
    ram.write(0, b"something")
    with pytest.raises(InterruptedError):
        write_state(io.BytesIO(), a_state(), ram, lambda written: False)


@pytest.mark.parametrize("length", [0, 10, 100, -1])
def test_a_file_that_is_not_whole_is_refused(ram: GuestRam, fresh: GuestRam, length: int) -> None:
    with pytest.raises(InvalidImage, match="saved_state: truncated"):
        read_state(io.BytesIO(saved(ram)[:length]), fresh)


def test_memory_that_has_changed_on_the_way_is_refused(ram: GuestRam, fresh: GuestRam) -> None:
    content = saved(ram).replace(b"over an edge", b"under a edge")
    with pytest.raises(InvalidImage, match="damaged: this piece of memory"):
        read_state(io.BytesIO(content), fresh)


def test_names_that_are_no_text_are_refused(ram: GuestRam, fresh: GuestRam) -> None:
    content = saved(ram).replace(b"devices", b"dev\xffces")
    with pytest.raises(InvalidImage, match="saved_state: damaged"):
        read_state(io.BytesIO(content), fresh)


def test_another_file_is_refused(fresh: GuestRam) -> None:
    with pytest.raises(InvalidImage, match="not a machine's saved state"):
        read_state(io.BytesIO(bytes(1000)), fresh)


def test_a_later_version_is_refused_and_not_guessed_at(ram: GuestRam, fresh: GuestRam) -> None:
    content = bytearray(saved(ram))
    struct.pack_into("<Q", content, 8, VERSION + 1)
    with pytest.raises(RecordTooNew, match=f"version {VERSION + 1}"):
        read_state(io.BytesIO(bytes(content)), fresh)


def test_a_machine_with_another_memory_is_refused(ram: GuestRam) -> None:
    with GuestRam(SIZE // 2) as smaller, pytest.raises(InvalidImage, match="the machine has"):
        read_state(io.BytesIO(saved(ram)), smaller)
