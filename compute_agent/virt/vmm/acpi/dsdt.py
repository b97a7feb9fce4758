"""The devices that a guest cannot find by itself.

Source: ACPI 6.4, 5.2.11.1 (DSDT), 6.1 (``_HID``, ``_UID``), 6.5.5 (``_BBN``), 7.4.2 (``_S5``); PNP device names.
"""

from __future__ import annotations

from compute_agent.virt.vmm import power, rtc
from compute_agent.virt.vmm.acpi.aml import EisaId, device, name, scope
from compute_agent.virt.vmm.acpi.resources import (
    bus_window,
    interrupt,
    memory,
    memory_window,
    port_window,
    ports,
    resources,
)
from compute_agent.virt.vmm.pci.bus import CONFIGURATION_PORTS, ECAM, WINDOWS

_SERIAL_PORTS, _SERIAL_INTERRUPT = range(0x3F8, 0x400), 4
_ALL_PORTS = range(0, 0x10000)


def dsdt() -> bytes:
    """Its byte code, without the table's header."""
    sleep = name("\\_S5", [power.SLEEP_TYPE_OFF, power.SLEEP_TYPE_OFF, 0, 0])
    return scope("\\_SB", _pci(), _serial(), _rtc(), _board()) + sleep


def _pci() -> bytes:
    below = range(_ALL_PORTS.start, CONFIGURATION_PORTS.start)
    above = range(CONFIGURATION_PORTS.stop, _ALL_PORTS.stop)
    occupied = resources(
        bus_window(range(1)),
        ports(CONFIGURATION_PORTS),
        port_window(below),
        port_window(above),
        *map(memory_window, WINDOWS),
    )
    return device("PCI0", name("_HID", EisaId("PNP0A03")), name("_UID", 0), name("_BBN", 0), occupied)


def _serial() -> bytes:
    occupied = resources(ports(_SERIAL_PORTS), interrupt(_SERIAL_INTERRUPT))
    return device("COM1", name("_HID", EisaId("PNP0501")), name("_UID", 0), occupied)


def _rtc() -> bytes:
    return device("RTC", name("_HID", EisaId("PNP0B00")), resources(ports(rtc.PORTS)))


def _board() -> bytes:
    """What is in use but no device's; Linux takes PCI's window in memory only if it is said here, too."""
    return device("BORD", name("_HID", EisaId("PNP0C02")), resources(memory(ECAM), ports(power.PORTS)))
