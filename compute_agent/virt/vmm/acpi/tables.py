"""ACPI's tables, with fixed hardware: FADT, FACS, MADT, MCFG, XSDT, RSDP.

Sources: ACPI 6.4, 5.2.5 (RSDP), 5.2.6 (headers), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.10 (FACS), 5.2.12 (MADT); PCI
Firmware Specification 3.0, 4.1.2 (MCFG).
"""

from __future__ import annotations

import struct

from compute_agent.virt.vmm import power, rtc
from compute_agent.virt.vmm.acpi.blob import Blob
from compute_agent.virt.vmm.acpi.dsdt import dsdt
from compute_agent.virt.vmm.interrupts import TIMER_GSI
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.bus import CONFIGURATION_PORTS, ECAM

_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_LENGTH_AT, _CHECKSUM_AT = 4, 9
_VENDOR, _MACHINE, _CREATOR = b"CMPAGT", b"VMM     ", b"CAGT"
_LOCAL_APIC, _IOAPIC = 0xFEE00000, 0xFEC00000
_RESET_PORT, _RESET_VALUE = CONFIGURATION_PORTS.start + 1, 0x06
_NEVER = 0x0FFF
"""A latency, microseconds: the processor's deeper sleep is not there."""

_PICS_TOO = 1
_LOCAL_APIC_ENTRY, _IOAPIC_ENTRY, _OVERRIDE_ENTRY = 0, 1, 2
_PROCESSOR_ENABLED = 1
_AS_ISA, _LEVEL_HIGH = 0x00, 0x0D

_WBINVD, _HALT, _CONTROL_METHOD_SLEEP_BUTTON, _NO_RTC_WAKE = 1 << 0, 1 << 2, 1 << 5, 1 << 6
_TIMER_OF_32_BITS, _RESET_REGISTER = 1 << 8, 1 << 10
_FLAGS = _WBINVD | _HALT | _CONTROL_METHOD_SLEEP_BUTTON | _NO_RTC_WAKE | _TIMER_OF_32_BITS | _RESET_REGISTER
_LEGACY_DEVICES, _NO_VGA = 1 << 0, 1 << 2
_FADT_SIZE, _FADT_REVISION, _FADT_MINOR = 276, 6, 4
_PORT_SPACE = 1
_FACS_SIZE, _FACS_VERSION = 64, 2
_FACS_AT, _DSDT_AT, _X_DSDT_AT = 36, 40, 140
_RSDP = struct.Struct("<8sB6sBIIQB3x")


def build_tables(processors: int) -> tuple[Blob, Blob]:
    """RSDP and all else; APIC ids are 0 to `processors` - 1."""
    tables = Blob()
    facs = tables.append(struct.pack("<4sIIIIIB31x", b"FACS", _FACS_SIZE, 0, 0, 0, 0, _FACS_VERSION), _FACS_SIZE)
    code = _append(tables, b"DSDT", 2, dsdt())
    fadt = _append(tables, b"FACP", _FADT_REVISION, _fadt(facs, code)[_HEADER.size :])
    for field, size in ((_FACS_AT, 4), (_DSDT_AT, 4), (_X_DSDT_AT, 8)):
        tables.point(fadt + field, size)
    roots = [fadt, _append(tables, b"APIC", 5, _madt(processors)), _append(tables, b"MCFG", 1, _mcfg())]
    xsdt = _append(tables, b"XSDT", 1, struct.pack(f"<{len(roots)}Q", *roots))
    for number in range(len(roots)):
        tables.point(xsdt + _HEADER.size + 8 * number, 8)
    return _rsdp(xsdt), tables


def write_tables(ram: GuestRam, address: int, processors: int) -> None:
    """Where a kernel without firmware is told that they are: RSDP first.

    :raises BadGuestAddress: there is no memory.
    """
    rsdp, tables = build_tables(processors)
    place = address + _FACS_SIZE
    ram.write(address, rsdp.at(place))
    ram.write(place, tables.at(place))


def _append(tables: Blob, signature: bytes, revision: int, body: bytes) -> int:
    length = _HEADER.size + len(body)
    header = _HEADER.pack(signature, length, revision, 0, _VENDOR, _MACHINE, 1, _CREATOR, 1)
    start = tables.append(header + body)
    tables.sum(start + _CHECKSUM_AT, start, length)
    return start


def _rsdp(xsdt: int) -> Blob:
    rsdp = Blob()
    rsdp.append(_RSDP.pack(b"RSD PTR ", 0, _VENDOR, 2, 0, _RSDP.size, xsdt, 0))
    rsdp.point(24, 8)
    rsdp.sum(8, 0, 20)
    rsdp.sum(32, 0, _RSDP.size)
    return rsdp


def _fadt(facs: int, code: int) -> bytes:
    table = bytearray(_FADT_SIZE)
    event, control, timer, general = (
        power.PORTS.start + register
        for register in (
            power.Register.STATUS,
            power.Register.CONTROL,
            power.Register.TIMER,
            power.Register.GENERAL_STATUS,
        )
    )
    fields: dict[int, tuple[str, tuple[int, ...]]] = {
        _FACS_AT: ("<II", (facs, code)),
        46: ("<H", (power.SCI_GSI,)),
        56: ("<I", (event,)),
        64: ("<I", (control,)),
        76: ("<II", (timer, general)),
        88: ("<BBBBB", (4, 2, 0, 4, 2)),
        96: ("<HH", (_NEVER, _NEVER)),
        108: ("<BH", (rtc.CENTURY, _LEGACY_DEVICES | _NO_VGA)),
        112: ("<I", (_FLAGS,)),
        116: ("<BBBBQB", (*_register(_RESET_PORT, 1), _RESET_VALUE)),
        131: ("<B", (_FADT_MINOR,)),
        _X_DSDT_AT: ("<Q", (code,)),
        148: ("<BBBBQ", _register(event, 4)),
        172: ("<BBBBQ", _register(control, 2)),
        208: ("<BBBBQ", _register(timer, 4)),
        220: ("<BBBBQ", _register(general, 2)),
    }
    for offset, (layout, values) in fields.items():
        struct.pack_into(layout, table, offset, *values)
    return bytes(table)


def _register(port: int, size: int) -> tuple[int, ...]:
    """A Generic Address Structure; the sizes of accesses are 1, 2, 3 for 1, 2, 4 bytes."""
    return _PORT_SPACE, 8 * size, 0, size.bit_length(), port


def _madt(processors: int) -> bytes:
    ioapic = struct.pack("<BBBBII", _IOAPIC_ENTRY, 12, 0, 0, _IOAPIC, 0)
    overrides = [(0, TIMER_GSI, _AS_ISA), (power.SCI_GSI, power.SCI_GSI, _LEVEL_HIGH)]
    return b"".join(
        [
            struct.pack("<II", _LOCAL_APIC, _PICS_TOO),
            *(struct.pack("<BBBBI", _LOCAL_APIC_ENTRY, 8, n, n, _PROCESSOR_ENABLED) for n in range(processors)),
            ioapic,
            *(struct.pack("<BBBBIH", _OVERRIDE_ENTRY, 10, 0, source, gsi, how) for source, gsi, how in overrides),
        ]
    )


def _mcfg() -> bytes:
    return struct.pack("<8xQHBB4x", ECAM.start, 0, 0, 0)
