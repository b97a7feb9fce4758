"""The interrupt controllers and the timer that KVM gives a machine: PICs, IOAPIC, local APICs and PIT.

Source: Linux's Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.handle import KvmHandle
from compute_agent.virt.kvm.requests import Request

_IDENTITY_MAP, _TASK_STATE = 0xFFFBC000, 0xFFFBD000
"""Where Intel's processors find what they need to run real mode: four pages below the firmware's place."""


class Chip(IntEnum):
    """Those with a state of the machine's own."""

    PIC_MASTER = lib.KVM_IRQCHIP_PIC_MASTER
    PIC_SLAVE = lib.KVM_IRQCHIP_PIC_SLAVE
    IOAPIC = lib.KVM_IRQCHIP_IOAPIC


class InterruptControllers(KvmHandle):
    """They are not there until `create_interrupt_controllers`; everything else raises `KvmError` before."""

    def create_interrupt_controllers(self) -> None:
        """Once, before the first vCPU, so that each gets a local APIC."""
        self.ask(Request.KVM_SET_TSS_ADDR, _TASK_STATE)
        self.ask(Request.KVM_SET_IDENTITY_MAP_ADDR, ffi.new("uint64_t *", _IDENTITY_MAP))
        self.ask(Request.KVM_CREATE_IRQCHIP)
        self.ask(Request.KVM_CREATE_PIT2, ffi.new("struct kvm_pit_config *", {"flags": lib.KVM_PIT_SPEAKER_DUMMY}))

    def set_line(self, gsi: int, is_high: bool) -> None:
        """Raise or lower an input."""
        self.ask(Request.KVM_IRQ_LINE, ffi.new("struct kvm_irq_level *", {"irq": gsi, "level": is_high}))

    def set_routes(self, pins: Sequence[tuple[int, int, int]], messages: Mapping[int, tuple[int, int]]) -> None:
        """What each GSI is: of (GSI, chip, pin), or GSI to (address, data). Replaces all that was."""
        count = len(pins) + len(messages)
        routing = ffi.new("struct kvm_irq_routing *", {"nr": count, "entries": count})
        for entry, (gsi, chip, pin) in zip(routing.entries[0 : len(pins)], pins, strict=True):
            entry.gsi, entry.type = gsi, lib.KVM_IRQ_ROUTING_IRQCHIP
            entry.u.irqchip.irqchip, entry.u.irqchip.pin = chip, pin
        for entry, (gsi, (address, data)) in zip(routing.entries[len(pins) : count], messages.items(), strict=True):
            entry.gsi, entry.type = gsi, lib.KVM_IRQ_ROUTING_MSI
            entry.u.msi.address_lo, entry.u.msi.address_hi = address & 0xFFFFFFFF, address >> 32
            entry.u.msi.data = data
        self.ask(Request.KVM_SET_GSI_ROUTING, routing)

    def connect_irqfd(self, fd: int, gsi: int) -> None:
        """What is written to the eventfd, before or from now on, interrupts."""
        self.ask(Request.KVM_IRQFD, ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi}))

    def disconnect_irqfd(self, fd: int, gsi: int) -> None:
        """It only counts from now on."""
        flags = lib.KVM_IRQFD_FLAG_DEASSIGN
        self.ask(Request.KVM_IRQFD, ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi, "flags": flags}))

    def chip_state(self, chip: Chip) -> bytes:
        """The kernel's own form."""
        return self.get_state(Request.KVM_GET_IRQCHIP, ffi.new("struct kvm_irqchip *", {"chip_id": chip}))

    def set_chip_state(self, state: bytes) -> None:
        """As `chip_state` has said; it knows which chip it is of."""
        self.set_state(Request.KVM_SET_IRQCHIP, ffi.new("struct kvm_irqchip *"), state)

    def timer_state(self) -> bytes:
        """The PIT's, in the kernel's own form."""
        return self.get_state(Request.KVM_GET_PIT2, ffi.new("struct kvm_pit_state2 *"))

    def set_timer_state(self, state: bytes) -> None:
        """As `timer_state` has said."""
        self.set_state(Request.KVM_SET_PIT2, ffi.new("struct kvm_pit_state2 *"), state)
