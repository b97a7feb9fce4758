"""The interrupt lines and messages of a machine, which KVM's interrupt controllers deliver.

Source: Linux's Documentation/virt/kvm/api.rst (KVM_IRQ_LINE, KVM_SET_GSI_ROUTING, KVM_IRQFD); PCI 3.0, 6.8 (messages).
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from typing import Protocol

from compute_agent.errors import InsufficientResources

TIMER_GSI = 2
"""Where the timer's interrupt 0 arrives at the IOAPIC, as on every PC; ACPI's tables say so to the guest."""
IOAPIC_PINS = 24
_MESSAGES = range(IOAPIC_PINS, 4000)
"""KVM takes 4096 routes; those of the pins are among them."""
_PIC_PINS, _PINS_OF_A_PIC, _IOAPIC = 16, 8, 2
_CASCADE = 2
"""The first PIC's pin at which the second one hangs."""


class InterruptController(Protocol):
    """KVM's part: PICs, IOAPIC and local APICs in the kernel."""

    def set_line(self, gsi: int, is_high: bool) -> None:
        """Raise or lower an input."""

    def set_routes(self, pins: Sequence[tuple[int, int, int]], messages: Mapping[int, tuple[int, int]]) -> None:
        """What each GSI is: of (GSI, chip, pin), or GSI to (address, data). Replaces all that was."""

    def connect_irqfd(self, fd: int, gsi: int) -> None:
        """What is written to the eventfd, before or from now on, interrupts."""

    def disconnect_irqfd(self, fd: int, gsi: int) -> None:
        """It only counts from now on."""


class Line:
    """A level: high as long as the device wants something."""

    def __init__(self, controller: InterruptController, gsi: int) -> None:
        self._controller = controller
        self._gsi = gsi
        self._is_high = False

    def set(self, is_high: bool) -> None:
        """May be repeated."""
        if is_high != self._is_high:
            self._controller.set_line(self._gsi, is_high)
            self._is_high = is_high


class Message:
    """An eventfd that whoever serves a device writes to; held back until the guest says where it goes."""

    def __init__(self, interrupts: Interrupts, gsi: int) -> None:
        self._interrupts = interrupts
        self.gsi = gsi
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_connected = False

    def deliver(self, address: int, data: int) -> None:
        """Let what waits and what will come through, as a write of `data` to `address`."""
        self._interrupts.set_route(self.gsi, (address, data))
        if not self._is_connected:
            self._interrupts.controller.connect_irqfd(self.fd, self.gsi)
            self._is_connected = True

    def hold(self) -> None:
        """Keep it pending from now on."""
        if self._is_connected:
            self._interrupts.controller.disconnect_irqfd(self.fd, self.gsi)
            self._is_connected = False

    def send(self) -> None:
        """Interrupt the guest, now or as soon as it lets us."""
        os.eventfd_write(self.fd, 1)

    @property
    def is_pending(self) -> bool:
        """Held back, and sent since."""
        return not self._is_connected and bool(select.select([self.fd], [], [], 0)[0])

    def forget_pending(self) -> None:
        """As after the device's reset."""
        if self.is_pending:
            os.eventfd_read(self.fd)

    def close(self) -> None:
        """Its device is gone. May be repeated."""
        if self.fd >= 0:
            self.hold()
            self._interrupts.set_route(self.gsi, None)
            self._interrupts.give_back(self.gsi)
            os.close(self.fd)
            self.fd = -1


class Interrupts:
    """KVM's routing table: the pins of PICs and IOAPIC as PCs have them, and messages in the numbers above."""

    def __init__(self, controller: InterruptController) -> None:
        self.controller = controller
        self._messages: dict[int, tuple[int, int]] = {}
        self._free = list(reversed(_MESSAGES))
        self._publish()

    def line(self, gsi: int) -> Line:
        """One of the first 24, for one device alone."""
        return Line(self.controller, gsi)

    def message(self) -> Message:
        """A new one, held back.

        :raises InsufficientResources: the machine has as many as KVM can route.
        """
        if not self._free:
            raise InsufficientResources("the machine has no interrupt left for another device")
        return Message(self, self._free.pop())

    def set_route(self, gsi: int, target: tuple[int, int] | None) -> None:
        """Where the messages of a GSI go: address and data; nowhere."""
        if self._messages.get(gsi) == target:
            return
        if target is None:
            del self._messages[gsi]
        else:
            self._messages[gsi] = target
        self._publish()

    def give_back(self, gsi: int) -> None:
        """Nobody uses it any more."""
        self._free.append(gsi)

    def _publish(self) -> None:
        pins = [(gsi, *divmod(gsi, _PINS_OF_A_PIC)) for gsi in range(_PIC_PINS) if gsi != _CASCADE]
        pins += [(0 if pin == TIMER_GSI else pin, _IOAPIC, pin) for pin in range(1, IOAPIC_PINS)]
        self.controller.set_routes(pins, self._messages)
