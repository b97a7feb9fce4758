"""Slots of memory, and the log of what a guest writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.memory import GuestMemory
from tests.unit.virt.kvm.toy import CODE, SIZE, Toy, toy

PAGE = 4096
READ = "b8 00 20 8e d8 a0 05 00 e6 10"
"""The byte at 0x20005."""
WRITE = "b8 00 20 8e d8 c6 06 05 00 43 e6 10"
"""The same."""
PLACE = 0x20000


@pytest.fixture
def guest() -> Iterator[Toy]:
    with toy() as one:
        yield one


@pytest.fixture
def more() -> Iterator[GuestMemory]:
    with GuestMemory(2 * PAGE) as memory:
        memory.content[0:8] = b"....more"
        yield memory


def test_a_slot_comes_and_goes(guest: Toy, more: GuestMemory) -> None:
    guest.vm.set_memory(1, PLACE, more.host_address, more.size)
    guest.run_to_end(READ)
    assert guest.exit_data() == b"o"
    guest.vm.remove_memory(1)
    guest.start(READ)
    assert guest.run() == ExitReason.KVM_EXIT_MMIO
    assert guest.vcpu.shared.mmio.phys_addr == PLACE + 5


def test_a_slot_that_is_only_read(guest: Toy, more: GuestMemory) -> None:
    guest.vm.set_memory(1, PLACE, more.host_address, more.size, read_only=True)
    guest.run_to_end(READ)
    assert guest.exit_data() == b"o"
    guest.start(WRITE)
    assert guest.run() == ExitReason.KVM_EXIT_MMIO
    assert more.content[5] == ord("o")


def test_the_log_says_once_which_pages_were_written(guest: Toy) -> None:
    """Some hosts count the page that the code is in, too."""
    guest.vm.set_memory(0, 0, guest.memory.host_address, SIZE, log_dirty=True)
    guest.vm.dirty_log(0, SIZE)
    guest.run_to_end("c6 06 00 30 01 c6 06 ff 6f 01 e6 10")
    log = guest.vm.dirty_log(0, SIZE)
    assert len(log) == 8
    assert int.from_bytes(log, "little") & ~(1 << CODE // PAGE) == 1 << 3 | 1 << 6
    assert not any(guest.vm.dirty_log(0, SIZE))


def test_without_a_log_there_is_none(guest: Toy) -> None:
    with pytest.raises(KvmError, match="KVM_GET_DIRTY_LOG: No such file or directory"):
        guest.vm.dirty_log(0, SIZE)


def test_half_a_page_is_refused(guest: Toy, more: GuestMemory) -> None:
    with pytest.raises(KvmError, match="KVM_SET_USER_MEMORY_REGION: Invalid argument"):
        guest.vm.set_memory(1, PLACE, more.host_address, 2048)
