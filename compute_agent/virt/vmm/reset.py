"""The three ways in which a guest resets its machine.

Sources: Intel 82371SB (PIIX3) data sheet, reset control register (0xcf9); IBM PC AT technical reference, keyboard
controller (0x64, command 0xfe) and system control port A (0x92).
"""

from __future__ import annotations

from collections.abc import Callable

from compute_agent.virt.vmm.address_space import AddressSpace

KEYBOARD_PORT, SYSTEM_CONTROL_PORT = 0x64, 0x92
_PULSE_RESET_LINE = 0xFE
_RESET_PROCESSOR = 0x04
_FAST_RESET, _A20 = 0x01, 0x02


class ResetControl:
    """The register amid the ports of PCI; ACPI's reset register, too."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if value & _RESET_PROCESSOR:
            self._reset()


class KeyboardController:
    """Only the reset line of one: no keyboard is behind it, and it is never busy."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if value & 0xFF == _PULSE_RESET_LINE:
            self._reset()


class SystemControl:
    """Port A: address line 20, which is always on, and the fast reset."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset

    def read(self, offset: int, size: int) -> int:
        return _A20

    def write(self, offset: int, size: int, value: int) -> None:
        if value & _FAST_RESET:
            self._reset()


def add_reset_ports(ports: AddressSpace, reset: Callable[[], None]) -> ResetControl:
    """All of them; the one for `Bus` is what comes back. `reset` is called on a vCPU's thread."""
    ports.add(KEYBOARD_PORT, 1, KeyboardController(reset))
    ports.add(SYSTEM_CONTROL_PORT, 1, SystemControl(reset))
    return ResetControl(reset)
