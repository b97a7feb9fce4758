"""The devices that a guest cannot find by itself.

Source: ACPI 6.4, 5.2.11.1 (DSDT), 6.1 (``_HID``, ``_UID``), 6.5.5 (``_BBN``), 7.4.2 (``_S5``), 5.6.6
(``Notify``), 6.3.3 (``_EJ0``); PNP device names.
"""

from __future__ import annotations

from collections.abc import Iterator

from compute_agent.virt.vmm import power, rtc
from compute_agent.virt.vmm.acpi import aml
from compute_agent.virt.vmm.acpi.aml import (
    EisaId,
    argument,
    call,
    device,
    if_bit,
    integer,
    method,
    name,
    notify,
    path,
    scope,
    store,
)
from compute_agent.virt.vmm.acpi.resources import (
    bus_window,
    interrupt,
    memory,
    memory_window,
    own_ports,
    port_window,
    resources,
)
from compute_agent.virt.vmm.pci import hotplug
from compute_agent.virt.vmm.pci.bus import CONFIGURATION_PORTS, ECAM, SLOTS, WINDOWS

_SERIAL_PORTS, _SERIAL_INTERRUPT = range(0x3F8, 0x400), 4
_ALL_PORTS = range(0, 0x10000)
_DEVICE_CHECK, _EJECT = 1, 3
"""What a slot is notified of."""


def dsdt() -> bytes:
    """Its byte code, without the table's header."""
    sleep = name("\\_S5", [power.SLEEP_TYPE_OFF, power.SLEEP_TYPE_OFF, 0, 0])
    return scope("\\_SB", _pci(), _serial(), _rtc(), _board()) + scope("\\_GPE", _event()) + sleep


def _pci() -> bytes:
    below = range(_ALL_PORTS.start, CONFIGURATION_PORTS.start)
    above = range(CONFIGURATION_PORTS.stop, _ALL_PORTS.stop)
    occupied = resources(
        bus_window(range(1)),
        own_ports(CONFIGURATION_PORTS),
        port_window(below),
        port_window(above),
        *map(memory_window, WINDOWS),
    )
    identity = name("_HID", EisaId("PNP0A03")) + name("_UID", 0) + name("_BBN", 0)
    return device("PCI0", identity, occupied, *_hot_plug())


def _hot_plug() -> Iterator[bytes]:
    """A device for each slot, which the guest can eject, and what tells it that something came or is to go."""
    yield aml.ports("HPRG", hotplug.PORTS, "CAME", "GOES", "EJCT")
    for slot in range(1, SLOTS):
        eject = method("_EJ0", 1, store(integer(1 << slot), "EJCT"))
        yield device(_slot(slot), name("_ADR", slot << 16), name("_SUN", slot), eject)
    told = (if_bit(argument(0), slot, notify(_slot(slot), argument(1))) for slot in range(1, SLOTS))
    yield method("TELL", 2, *told)
    yield method(
        "LOOK", 0, call("TELL", path("CAME"), integer(_DEVICE_CHECK)), call("TELL", path("GOES"), integer(_EJECT))
    )


def _event() -> bytes:
    return method(f"_E{power.HOT_PLUG_EVENT:02X}", 0, call("\\_SB.PCI0.LOOK"))


def _slot(number: int) -> str:
    return f"S{number:02X}"


def _serial() -> bytes:
    occupied = resources(own_ports(_SERIAL_PORTS), interrupt(_SERIAL_INTERRUPT))
    return device("COM1", name("_HID", EisaId("PNP0501")), name("_UID", 0), occupied)


def _rtc() -> bytes:
    return device("RTC", name("_HID", EisaId("PNP0B00")), resources(own_ports(rtc.PORTS)))


def _board() -> bytes:
    """What is in use but no device's; Linux takes PCI's window in memory only if it is said here, too."""
    return device(
        "BORD",
        name("_HID", EisaId("PNP0C02")),
        resources(memory(ECAM), own_ports(power.PORTS), own_ports(hotplug.PORTS)),
    )
