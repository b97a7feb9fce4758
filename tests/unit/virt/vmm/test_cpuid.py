"""What each processor says about itself, in a table as the kernel has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.vmm.cpuid import ProcessorIdentity

HYPERVISOR, DEADLINE_TIMER, SEVERAL = 1 << 31, 1 << 24, 1 << 28
LEAVES = [(0x1, 0), (0x4, 0), (0x4, 3), (0xB, 0), (0xB, 1), (0x7, 0), (0x80000008, 0), (0x8000001E, 0)]


def entry(number: int, count: int, function: int, index: int = 0, *, eax: int = 0xFFFFFFFF) -> CData:
    """What processor `number` of `count` says where the host would say all ones."""
    ones = {"ebx": 0xFFFFFFFF, "ecx": 0xFFFFFFFF, "edx": 0xFFFFFFFF}
    entries = [{"function": leaf, "index": sub, "eax": eax, **ones} for leaf, sub in LEAVES]
    table = ffi.new("struct kvm_cpuid2 *", {"nent": len(entries), "entries": entries})
    ProcessorIdentity(number, count, has_deadline_timer=True).apply(table)
    entry.table = table  # type: ignore[attr-defined]  # what is returned points into it
    return table.entries[LEAVES.index((function, index))]


@pytest.mark.parametrize(
    ("what", "function", "index"),
    [
        (lambda entry: entry.ebx >> 24, 0x1, 0),
        (lambda entry: entry.edx, 0xB, 0),
        (lambda entry: entry.edx, 0xB, 1),
        (lambda entry: entry.eax, 0x8000001E, 0),
    ],
)
def test_each_has_the_number_of_its_apic_wherever_it_is_said(
    what: Callable[[CData], int], function: int, index: int
) -> None:
    assert [what(entry(number, 4, function, index)) for number in range(4)] == [0, 1, 2, 3]


def test_all_are_cores_of_one_package() -> None:
    assert entry(2, 3, 0x1).ebx >> 16 & 0xFF == 3
    assert entry(2, 3, 0x80000008).ecx == 2 << 12 | 2
    cores = entry(2, 3, 0xB, 1)
    assert (cores.eax, cores.ebx, cores.ecx) == (2, 3, 0x201)
    threads = entry(2, 3, 0xB, 0)
    assert (threads.eax, threads.ebx, threads.ecx) == (0, 1, 0x100)
    assert entry(2, 3, 0x4, 3).eax >> 26 == 2
    assert entry(2, 3, 0x4, eax=0).eax == 0


def test_one_alone_does_not_say_that_there_are_several() -> None:
    assert entry(0, 1, 0x1).edx & SEVERAL == 0
    assert entry(0, 2, 0x1).edx & SEVERAL


def test_it_says_that_it_is_a_guest() -> None:
    assert entry(0, 1, 0x1).ecx & (HYPERVISOR | DEADLINE_TIMER) == HYPERVISOR | DEADLINE_TIMER


def test_what_has_nothing_to_do_with_that_is_the_hosts() -> None:
    other = entry(1, 2, 0x7)
    assert (other.eax, other.ebx, other.ecx, other.edx) == (0xFFFFFFFF,) * 4
