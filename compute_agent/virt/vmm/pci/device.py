"""A function on the bus: its configuration space, and its registers at addresses that the guest chooses.

Source: PCI Local Bus Specification 3.0, 6.2.5 (base address registers, 32 bits wide).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from compute_agent.errors import AddressInUse
from compute_agent.virt.vmm.address_space import AddressSpace, Region
from compute_agent.virt.vmm.pci.configuration import SIZE, Command, Configuration, Header, Identity


class PciState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    configuration: bytes


class Bar:
    """Registers that can be moved."""

    def __init__(self, number: int, size: int, region: Region, moved: Callable[[int | None], None] | None) -> None:
        """:param size: a power of two, at least 16; `moved` hears of each new address."""
        self.number = number
        self.size = size
        self.region = region
        self.address: int | None = None
        """Where the guest finds it now; None: nowhere."""
        self._moved = moved

    def move(self, memory: AddressSpace, address: int | None) -> None:
        """Nowhere at all, if something else is there: that is the guest's fault."""
        if address == self.address:
            return
        memory.remove(self.region)
        try:
            if address is not None:
                memory.add(address, self.size, self.region)
        except AddressInUse:
            address = None
        if address != self.address:
            self.address = address
            if self._moved is not None:
                self._moved(address)


class PciDevice:
    """Function 0 of a slot. The configuration space is read and written as a `Region`."""

    def __init__(self, identity: Identity) -> None:
        self.configuration = Configuration(identity)
        self.bars: list[Bar] = []
        self._memory: AddressSpace | None = None
        self._windows: Sequence[range] = ()

    def add_bar(
        self, number: int, size: int, region: Region, moved: Callable[[int | None], None] | None = None
    ) -> None:
        """Before it is on the bus."""
        self.bars.append(Bar(number, size, region, moved))
        self.configuration.allow(Header.BARS + 4 * number, 4, -size & 0xFFFFFFFF)

    def plug(self, memory: AddressSpace, windows: Sequence[range], address: int) -> None:
        """It is on a bus whose `windows` can have its registers; they are at `address` as soon as the guest wants."""
        self._memory, self._windows = memory, windows
        for bar in sorted(self.bars, key=lambda bar: -bar.size):
            self.configuration.set(Header.BARS + 4 * bar.number, 4, address)
            address += bar.size

    def unplug(self) -> None:
        """It is on no bus any more. May be repeated."""
        if self._memory is not None:
            for bar in self.bars:
                bar.move(self._memory, None)
        self._memory = None

    def read(self, offset: int, size: int) -> int:
        """The configuration space."""
        return self.configuration.get(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """The configuration space."""
        self.configuration.write(offset, size, value)
        if offset < Header.SUBSYSTEM_VENDOR:
            self._move_bars()

    def reset(self) -> None:
        """As after power-on, except for addresses, which stay with the bars."""
        self.configuration.set(Header.COMMAND, 2, 0)
        self._move_bars()

    def pci_state(self) -> PciState:
        """The configuration space's part of it."""
        return PciState(bytes(self.configuration.content))

    def restore_pci(self, state: PciState) -> None:
        """Of a function made the same way."""
        self.configuration.content[:] = state.configuration[:SIZE].ljust(SIZE, b"\0")
        self._move_bars()

    def _move_bars(self) -> None:
        if self._memory is None:
            return
        is_on = bool(self.configuration.get(Header.COMMAND, 2) & Command.MEMORY)
        for bar in self.bars:
            start = self.configuration.get(Header.BARS + 4 * bar.number, 4)
            fits = any(start >= window.start and start + bar.size <= window.stop for window in self._windows)
            bar.move(self._memory, start if is_on and fits else None)
