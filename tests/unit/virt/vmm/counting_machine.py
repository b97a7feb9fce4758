"""A machine of this process, on this machine's own /dev/kvm, that counts; and one that waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compute_agent.virt.vmm.machine import Machine
from compute_agent.virt.vmm.plan import Plan
from tests.unit.virt.waiting import until

PAGE, RESET_VECTOR, MEMORY = 4096, 0xFF0, 16 * 1024**2
COUNTS = bytes.fromhex(
    "31c0 8ed8 b80010 8ec0 66ff060050 668b1e0050 2666891e0000 050001 3d0090 72e6 baf803 b02e ee ebdb"
)
"""Counts at 0x5000, for ever, and writes each number to the next one of the pages from 0x10000 to 0x8ffff."""
TO_THE_START = bytes.fromhex("e90df0")
COUNTER, PAGES = 0x5000, range(0x10000, 0x90000, PAGE)


@contextmanager
def a_machine(*, is_incoming: bool = False, memory: int = MEMORY) -> Iterator[Machine]:
    firmware, log = os.memfd_create("firmware"), os.memfd_create("log")
    os.write(firmware, COUNTS.ljust(RESET_VECTOR, b"\0") + TO_THE_START.ljust(PAGE - RESET_VECTOR, b"\0"))
    plan = Plan(
        instance_uuid="5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11",
        name="tiny",
        memory=memory,
        vcpus=1,
        monitor=-1,
        console=-1,
        console_log=log,
        firmware=firmware,
        is_incoming=is_incoming,
    )
    machine = Machine(plan, lambda event, data: None)
    yield machine
    machine.moves.carrier.cancel()
    until(lambda: not machine.moves.carrier.is_active)
    machine.life.pause()
    machine.processors.close()
    for fd in (firmware, log):
        os.close(fd)


@pytest.fixture
def here() -> Iterator[Machine]:
    """It counts."""
    with a_machine() as machine:
        machine.life.resume()
        until(lambda: counter(machine) > 0)
        yield machine


@pytest.fixture
def there() -> Iterator[Machine]:
    with a_machine(is_incoming=True) as machine:
        yield machine


def counter(machine: Machine) -> int:
    return int.from_bytes(machine.ram.read(COUNTER, 4), "little")
