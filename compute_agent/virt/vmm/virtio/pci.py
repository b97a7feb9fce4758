"""A virtio device as a function on the bus.

Source: virtio 1.2, 4.1 (virtio over PCI bus), without the legacy interface; interrupts are MSI-X only.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Protocol

import msgspec

from compute_agent.errors import KvmError
from compute_agent.virt.vmm.address_space import Region
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.configuration import Identity
from compute_agent.virt.vmm.pci.device import PciDevice, PciState
from compute_agent.virt.vmm.pci.msix import Msix, MsixState
from compute_agent.virt.vmm.virtio.common import CommonRegisters, CommonState
from compute_agent.virt.vmm.virtio.device import DeviceType, VirtioDevice
from compute_agent.virt.vmm.virtio.registers import (
    NOTIFY_STEP,
    PAGE,
    DeviceRegisters,
    Isr,
    NotifyRegisters,
    Pages,
)
from compute_agent.virt.vmm.virtio.status import Agreement, AgreementState
from compute_agent.virt.vmm.virtio.window import RegisterWindow

_VENDOR, _FIRST_DEVICE, _SUBSYSTEM, _REVISION = 0x1AF4, 0x1040, 0x1100, 1
_CLASSES = {DeviceType.NETWORK: 0x020000, DeviceType.BLOCK: 0x010000, DeviceType.ENTROPY: 0x00FF00}
_REGISTERS, _VECTORS = 0, 1
"""Base address registers."""
_ANY_WIDTH = 0
_VENDOR_CAPABILITY = 0x09


class _Structure(IntEnum):
    """Parts of the registers, by the number that a capability says; a page each."""

    COMMON = 1
    NOTIFY = 2
    ISR = 3
    DEVICE = 4


_STRUCTURES = (_Structure.COMMON, _Structure.ISR, _Structure.DEVICE, _Structure.NOTIFY)


class Notifiers(Protocol):
    """KVM's part: a guest's write to an address becomes a write to an eventfd."""

    def add_notifier(self, address: int, size: int, fd: int) -> None:
        """:param size: 0 for a write of any width."""

    def remove_notifier(self, address: int, size: int, fd: int) -> None:
        """As it was added."""


class VirtioPciState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    pci: PciState
    msix: MsixState
    agreement: AgreementState
    common: CommonState


class VirtioPci(PciDevice):
    """`agreement` pauses and resumes it."""

    def __init__(self, device: VirtioDevice, ram: GuestRam, interrupts: Interrupts, notifiers: Notifiers) -> None:
        """It owns the device from now on."""
        identity = (_VENDOR, _FIRST_DEVICE + device.type, _CLASSES[device.type], _REVISION, _VENDOR, _SUBSYSTEM)
        super().__init__(Identity(*identity))
        self._notifiers = notifiers
        self._notified: list[tuple[int, int]] = []
        self._isr = Isr()
        self.agreement = Agreement(device, ram, self._tell)
        self._msix = Msix(self, _VECTORS, interrupts, len(device.queue_sizes) + 1)
        self._common = CommonRegisters(self.agreement, self._msix, self._isr.forget)
        parts: dict[_Structure, Region] = {
            _Structure.COMMON: self._common,
            _Structure.ISR: self._isr,
            _Structure.DEVICE: DeviceRegisters(device),
            _Structure.NOTIFY: NotifyRegisters(self.agreement),
        }
        registers = Pages([parts[structure] for structure in _STRUCTURES])
        self.add_bar(_REGISTERS, PAGE * len(_STRUCTURES), registers, self._registers_moved)
        self._add_capabilities()
        self._window = RegisterWindow(self, registers, PAGE * len(_STRUCTURES))

    def read(self, offset: int, size: int) -> int:
        self._window.before_read(offset, size)
        return super().read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        super().write(offset, size, value)
        self._msix.control_written(offset, size)
        self._window.written(offset, size)

    def reset(self) -> None:
        self.agreement.reset()
        self._common.reset()
        self._msix.reset()
        self._isr.forget()
        super().reset()

    def close(self) -> None:
        """Pulled out, for good."""
        self.unplug()
        self.agreement.close()
        self._msix.close()

    def state(self) -> VirtioPciState:
        """While it is paused."""
        return VirtioPciState(self.pci_state(), self._msix.state(), self.agreement.state(), self._common.state())

    def restore(self, state: VirtioPciState) -> None:
        """It is paused.

        :raises DeviceError: it was another kind of device; nothing was restored.
        """
        self.agreement.restore(state.agreement)
        self.restore_pci(state.pci)
        self._common.restore(state.common)
        self._msix.restore(state.msix)

    def _add_capabilities(self) -> None:
        for place, structure in enumerate(_STRUCTURES):
            step = struct.pack("<I", NOTIFY_STEP) if structure == _Structure.NOTIFY else b""
            place_and_size = struct.pack("<II", PAGE * place, PAGE)
            body = struct.pack("<BBBxxx", 16 + len(step), structure, _REGISTERS) + place_and_size + step
            self.configuration.add_capability(_VENDOR_CAPABILITY, body)

    def _registers_moved(self, address: int | None) -> None:
        """What KVM cannot notify of comes to `NotifyRegisters`, only slower."""
        for old, fd in self._notified:
            self._notifiers.remove_notifier(old, _ANY_WIDTH, fd)
        self._notified.clear()
        if address is None:
            return
        first = address + PAGE * _STRUCTURES.index(_Structure.NOTIFY)
        kicks = [(first + NOTIFY_STEP * queue.number, queue.kick) for queue in self.agreement.queues]
        try:
            for place, kick in kicks:
                if kick is not None:
                    self._notifiers.add_notifier(place, _ANY_WIDTH, kick)
                    self._notified.append((place, kick))
        except KvmError:
            return

    def _tell(self) -> None:
        self._isr.has_changed = True
        message = self._msix.message(self._common.config_vector)
        if message is not None:
            message.send()
