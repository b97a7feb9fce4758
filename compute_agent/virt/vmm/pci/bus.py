"""The bus, and the two ways to its configuration spaces: two ports, and a window in memory.

Sources: PCI Local Bus Specification 3.0, 3.2.2.3.2 (configuration mechanism #1); PCI Firmware Specification 3.0, 4.1
(ECAM, "MMCONFIG"); Intel 440FX data sheet (the host bridge that SeaBIOS knows, with its PAM registers).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from compute_agent.errors import InsufficientResources
from compute_agent.virt.vmm.address_space import AddressSpace, Region
from compute_agent.virt.vmm.pci.configuration import Identity
from compute_agent.virt.vmm.pci.device import PciDevice, PciState

WINDOWS = (range(0xC0000000, 0xE0000000), range(0xF0000000, 0xFEC00000))
"""Where registers can be. SeaBIOS fills the second one from its end."""
ECAM = range(0xE0000000, 0xE0100000)
CONFIGURATION_PORTS = range(0xCF8, 0xD00)
SLOTS = 32
_ROOM_OF_A_SLOT = 0x10000
_ADDRESS_PORT, _DATA_PORT = 0, 4
_ENABLED = 1 << 31
_OF_A_FUNCTION = 4096
_HOST_BRIDGE = Identity(0x8086, 0x1237, 0x060000, 2, 0x1AF4, 0x1100)
"""An Intel 440FX; the subsystem tells SeaBIOS that it is in a virtual machine."""
_PAM, _PAM_COUNT = 0x59, 7


class BusState(msgspec.Struct, frozen=True):
    """What survives a suspension, beside the devices: which register is selected, and the bridge."""

    selected: int
    bridge: PciState


class Bus:
    """Bus 0, with a host bridge in slot 0."""

    def __init__(self, ports: AddressSpace, memory: AddressSpace, reset_control: Region) -> None:
        """:param reset_control: what is at port 0xcf9, amid the ports of the bus."""
        self._memory = memory
        self._devices: dict[int, PciDevice] = {}
        self._bridge = PciDevice(_HOST_BRIDGE)
        self._bridge.configuration.allow(_PAM, _PAM_COUNT, (1 << 8 * _PAM_COUNT) - 1)
        self.add(self._bridge)
        self.ports = ConfigurationPorts(self, reset_control)
        ports.add(CONFIGURATION_PORTS.start, len(CONFIGURATION_PORTS), self.ports)
        memory.add(ECAM.start, len(ECAM), ConfigurationWindow(self))

    def add(self, device: PciDevice, slot: int | None = None) -> int:
        """Plug a device into a slot, by default the first free one; its number.

        :raises InsufficientResources: no slot is free.
        """
        if slot is None:
            slot = next((number for number in range(SLOTS) if number not in self._devices), SLOTS)
        if slot in self._devices or slot >= SLOTS:
            raise InsufficientResources("the machine has no free slot for another device")
        device.plug(self._memory, WINDOWS, WINDOWS[0].start + slot * _ROOM_OF_A_SLOT)
        self._devices[slot] = device
        return slot

    def remove(self, slot: int) -> PciDevice:
        """Take what is in a slot out of it."""
        device = self._devices.pop(slot)
        device.unplug()
        return device

    def function(self, bus: int, slot: int, function: int) -> PciDevice | None:
        """None: nothing there."""
        return self._devices.get(slot) if bus == function == 0 else None

    def __iter__(self) -> Iterator[tuple[int, PciDevice]]:
        """Slots that are in use, and what is there."""
        return iter(sorted(self._devices.items()))

    def reset(self) -> None:
        """And all devices; what was shadowed of the firmware is not any more."""
        self.ports.address = 0
        self._bridge.configuration.set(_PAM, _PAM_COUNT, 0)
        for device in self._devices.values():
            device.reset()

    def state(self) -> BusState:
        """Each device has its own."""
        return BusState(self.ports.address, self._bridge.pci_state())

    def restore(self, state: BusState) -> None:
        self.ports.address = state.selected
        self._bridge.restore_pci(state.bridge)


class ConfigurationPorts:
    """Which function and register at 0xcf8, its value at 0xcfc."""

    def __init__(self, bus: Bus, reset_control: Region) -> None:
        self._bus = bus
        self._reset_control = reset_control
        self.address = 0

    def read(self, offset: int, size: int) -> int:
        if offset >= _DATA_PORT:
            device, register = self._selected(offset)
            return device.read(register, size) if device else -1
        if offset == _ADDRESS_PORT and size == 4:
            return self.address
        return self._reset_control.read(0, size) if offset == 1 and size == 1 else -1

    def write(self, offset: int, size: int, value: int) -> None:
        if offset >= _DATA_PORT:
            device, register = self._selected(offset)
            if device:
                device.write(register, size, value)
        elif offset == _ADDRESS_PORT and size == 4:
            self.address = value & 0x80FFFFFC
        elif offset == 1 and size == 1:
            self._reset_control.write(0, size, value)

    def _selected(self, offset: int) -> tuple[PciDevice | None, int]:
        address = self.address
        if not address & _ENABLED:
            return None, 0
        function = self._bus.function(address >> 16 & 0xFF, address >> 11 & 0x1F, address >> 8 & 7)
        return function, address & 0xFC | offset - _DATA_PORT


class ConfigurationWindow:
    """A page of memory for each function."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def read(self, offset: int, size: int) -> int:
        device = self._selected(offset)
        return device.read(offset % _OF_A_FUNCTION, size) if device else -1

    def write(self, offset: int, size: int, value: int) -> None:
        device = self._selected(offset)
        if device:
            device.write(offset % _OF_A_FUNCTION, size, value)

    def _selected(self, offset: int) -> PciDevice | None:
        return self._bus.function(offset >> 20, offset >> 15 & 0x1F, offset >> 12 & 7)
