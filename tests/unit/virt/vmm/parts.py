"""What devices are put into for a test: everything of a machine that needs no KVM, and a record of what KVM is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from compute_agent.virt.vmm.address_space import AddressSpace
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.bus import Bus
from compute_agent.virt.vmm.pci.configuration import Header
from compute_agent.virt.vmm.reset import add_reset_ports

MIB = 1024**2


class KvmRecord:
    """A fake: what `Vm` would tell the kernel."""

    def __init__(self) -> None:
        self.high: set[int] = set()
        self.pins: Sequence[tuple[int, int, int]] = ()
        self.messages: dict[int, tuple[int, int]] = {}
        self.connected: dict[int, int] = {}
        self.notifiers: dict[tuple[int, int, int], int | None] = {}

    def set_line(self, gsi: int, is_high: bool) -> None:
        (self.high.add if is_high else self.high.remove)(gsi)

    def set_routes(self, pins: Sequence[tuple[int, int, int]], messages: Mapping[int, tuple[int, int]]) -> None:
        self.pins, self.messages = pins, dict(messages)

    def connect_irqfd(self, fd: int, gsi: int) -> None:
        assert fd not in self.connected
        self.connected[fd] = gsi

    def disconnect_irqfd(self, fd: int, gsi: int) -> None:
        assert self.connected.pop(fd) == gsi

    def add_notifier(self, address: int, size: int, fd: int, datamatch: int | None = None, port: bool = False) -> None:
        assert (address, size, fd) not in self.notifiers
        self.notifiers[address, size, fd] = datamatch

    def remove_notifier(
        self, address: int, size: int, fd: int, datamatch: int | None = None, port: bool = False
    ) -> None:
        del self.notifiers[address, size, fd]


@dataclass
class Parts:
    """A machine without processors."""

    ram: GuestRam
    kvm: KvmRecord = field(default_factory=KvmRecord)
    resets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lock = threading.RLock()
        self.ports, self.memory = AddressSpace(lock), AddressSpace(lock)
        self.interrupts = Interrupts(self.kvm)
        self.bus = Bus(self.ports, self.memory, add_reset_ports(self.ports, lambda: self.resets.append("reset")))


class Function:
    """One slot's configuration space, as a guest's PCI core reaches it."""

    def __init__(self, parts: Parts, slot: int) -> None:
        self.parts = parts
        self._slot = slot

    def read(self, register: int, size: int) -> int:
        self._select(register)
        return self.parts.ports.read(0xCFC + register % 4, size)

    def write(self, register: int, size: int, value: int) -> None:
        self._select(register)
        self.parts.ports.write(0xCFC + register % 4, size, value)

    def enable(self) -> None:
        """Memory and bus master."""
        self.write(Header.COMMAND, 2, 0x406)

    def bar(self, number: int) -> int:
        """Its address."""
        return self.read(Header.BARS + 4 * number, 4) & ~0xF

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """Kind and place of each."""
        place = self.read(Header.CAPABILITIES, 1)
        while place:
            yield self.read(place, 1), place
            place = self.read(place + 1, 1)

    def _select(self, register: int) -> None:
        self.parts.ports.write(0xCF8, 4, 1 << 31 | self._slot << 11 | register & 0xFC)


@pytest.fixture
def parts() -> Iterator[Parts]:
    with GuestRam(4 * MIB) as ram:
        yield Parts(ram)
