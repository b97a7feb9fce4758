"""A guest that writes nonsense to the registers of its machine of our own, and into the rings of its devices."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from compute_agent.errors import BadGuestAddress, DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.bus import ECAM
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.ring import Ring
from tests.fuzz.mutation import NUMBERS
from tests.fuzz.target import Case, Check, Target
from tests.unit.virt.vmm.parts import MIB
from tests.unit.virt.vmm.test_fuzz import ALL_PORTS, BEFORE, CARDS, Machine, a_machine

_ACCESSES = 60
_RING = 0.6
"""Of all cases."""
_SIZES = (1, 2, 4, 8)
_REGISTERS = range(0xC0010000, 0xC0025000)
_LARGEST = 256


@contextmanager
def _open() -> Iterator[Check]:
    with GuestRam(1 * MIB) as ram:

        def check(case: Case) -> None:
            if case.random.random() < _RING:
                return _take_from_ring(case, ram)
            with a_machine() as machine:
                for _ in range(case.random.randint(1, _ACCESSES)):
                    _access(case, machine)
                assert len(list(machine.bus)) <= CARDS + BEFORE
            assert not (machine.kvm.connected or machine.kvm.notifiers or machine.kvm.messages)
            return None

        yield check


def _access(case: Case, machine: Machine) -> None:
    random = case.random
    size = random.choice(_SIZES)
    value = random.choice((*NUMBERS, 0x82, 0xC0100000, 0x80000804, random.getrandbits(64))) % (1 << 8 * size)
    kind = random.randrange(4)
    if kind == 0:
        address = random.randrange(0x100000, 0x203000)
        machine.ram.write(address, value.to_bytes(size, "little"))
    else:
        space = machine.ports if kind == 1 else machine.memory
        address = _address(random, kind)
        space.write(address, size, value)
        assert 0 <= space.read(address, size) < 1 << 8 * size
    case.show((kind, hex(address), size, hex(value)))


def _address(random: Random, kind: int) -> int:
    if kind == 1:
        return random.choice(ALL_PORTS)
    return random.choice((random.choice(_REGISTERS), ECAM.start + random.randrange(0x18000)))


def _take_from_ring(case: Case, ram: GuestRam) -> None:
    """A driver's tables of descriptors: chains without an end, lengths beyond all memory, tables in tables."""
    random = case.random
    size = 1 << random.randrange(9)
    places = [random.choice((0x1000, 0x4000, 0x8000, 0xFFFF0, 1 << 40, 2**64 - 8)) for _ in range(3)]
    queue = Queue(0, _LARGEST, size, None, *places, True)
    content = b"".join(_descriptor(random) for _ in range(min(size, 16)))
    case.show((size, places, content))
    ram.write(0x1000, content)
    ram.write(0x4000, struct.pack("<HH", 0, random.choice((0, 1, 2, size, 0xFFFF))) + random.randbytes(2 * size))
    ring = Ring(ram, queue)
    try:
        for _ in range(4):
            if (chain := ring.take()) is None:
                break
            assert len(ring.read(chain, 4096)) <= 4096
            ring.give_back(chain, ring.write(chain, b"x" * 4096))
    except (BadGuestAddress, DeviceError):
        return


def _descriptor(random: Random) -> bytes:
    address = random.choice((0x1000, 0x1010, 0x2000, 0x100000, 2**63, 2**64 - 1, random.getrandbits(20)))
    length = random.choice((0, 1, 16, 4096, 2**32 - 1, random.getrandbits(12)))
    return struct.pack("<QIHH", address, length, random.choice((0, 1, 2, 3, 4, 5, 7)), random.choice((0, 1, 2, 0xFFFF)))


TARGET = Target(name="devices", open=_open, weight=18)
