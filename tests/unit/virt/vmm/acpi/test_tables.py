"""What ACPI's own compiler, and a kernel, read of the tables."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from compute_agent.virt.vmm.acpi.tables import build_tables, write_tables
from compute_agent.virt.vmm.boot.layout import ACPI
from compute_agent.virt.vmm.memory import GuestRam
from tests.unit.virt.vmm.parts import MIB

PROCESSORS = 3


def tables_in(ram: GuestRam, address: int) -> dict[str, bytes]:
    """As a kernel finds them."""
    rsdp = ram.read(address, 36)
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) % 256 == sum(rsdp) % 256 == 0
    (xsdt,) = struct.unpack_from("<Q", rsdp, 24)
    found = {"XSDT": table_at(ram, xsdt)}
    for (place,) in struct.iter_unpack("<Q", found["XSDT"][36:]):
        table = table_at(ram, place)
        found[table[:4].decode()] = table
    facs, dsdt = struct.unpack_from("<II", found["FACP"], 36)
    assert struct.unpack_from("<Q", found["FACP"], 140) == (dsdt,)
    assert facs % 64 == 0
    assert ram.read(facs, 8) == struct.pack("<4sI", b"FACS", 64)
    found["DSDT"] = table_at(ram, dsdt)
    return found


def table_at(ram: GuestRam, place: int) -> bytes:
    (length,) = struct.unpack("<I", ram.read(place + 4, 4))
    table = ram.read(place, length)
    assert sum(table) % 256 == 0
    assert place + length <= ACPI.stop
    return table


@pytest.fixture(scope="module")
def tables() -> dict[str, bytes]:
    """Each under its signature."""
    with GuestRam(2 * MIB) as ram:
        write_tables(ram, ACPI.start, PROCESSORS)
        return tables_in(ram, ACPI.start)


@pytest.fixture(scope="module")
def disassembled(tables: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By iasl, each under its signature."""
    directory = tmp_path_factory.mktemp("acpi")
    return {signature: disassemble(directory, signature, table) for signature, table in tables.items()}


def disassemble(directory: Path, signature: str, table: bytes) -> str:
    (directory / signature).write_bytes(table)
    ran = subprocess.run(["iasl", "-d", signature], cwd=directory, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert not [line for line in (ran.stdout + ran.stderr).splitlines() if "Warning" in line or "Error" in line]
    return (directory / f"{signature}.dsl").read_text()


def test_all_are_there(disassembled: dict[str, str]) -> None:
    assert set(disassembled) == {"XSDT", "FACP", "APIC", "MCFG", "DSDT"}
    for text in disassembled.values():
        assert "Incorrect checksum" not in text
        assert "Invalid" not in text


@pytest.mark.parametrize(
    "line",
    [
        "SCI Interrupt : 0009",
        "PM1A Event Block Address : 00000600",
        "PM1A Control Block Address : 00000604",
        "PM Timer Block Address : 00000608",
        "GPE0 Block Address : 0000060C",
        "GPE0 Block Length : 02",
        "Hardware Reduced (V5) : 0",
        "Control Method Power Button (V1) : 0",
        "32-bit PM Timer (V1) : 1",
        "Reset Register Supported (V2) : 1",
        "Value to cause reset : 06",
        "8042 Present on ports 60/64 (V2) : 0",
        "RTC Century Index : 32",
    ],
)
def test_fixed_hardware(disassembled: dict[str, str], line: str) -> None:
    assert line in disassembled["FACP"]


def test_processors_and_interrupt_controllers(disassembled: dict[str, str]) -> None:
    text = disassembled["APIC"]
    assert text.count("[Processor Local APIC]") == PROCESSORS
    assert text.count("[I/O APIC]") == 1
    assert "Source : 00" in text
    assert "Interrupt : 00000002" in text
    assert "Trigger Mode : 3" in text


def test_the_window_of_pci(disassembled: dict[str, str]) -> None:
    assert "Base Address : 00000000E0000000" in disassembled["MCFG"]
    assert "End Bus Number : 00" in disassembled["MCFG"]


def test_devices_compile_again(disassembled: dict[str, str], tmp_path: Path) -> None:
    text = disassembled["DSDT"]
    for expected in ('EisaId ("PNP0A03")', 'EisaId ("PNP0501")', 'EisaId ("PNP0B00")', "Name (\\_S5, Package (0x04)"):
        assert expected in text
    assert "WordBusNumber" in text
    assert text.count("DWordMemory") == 2
    (tmp_path / "dsdt.dsl").write_text(text)
    ran = subprocess.run(["iasl", "dsdt.dsl"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert "0 Errors, 0 Warnings" in ran.stdout, ran.stdout


@pytest.mark.parametrize("value", [1, 3])
def test_slots_are_notified(tables: dict[str, bytes], tmp_path: Path, value: int) -> None:
    """By ACPI's own interpreter, which has memory where our ports are."""
    (tmp_path / "dsdt.aml").write_bytes(tables["DSDT"])
    methods = [f"\\_SB.PCI0.TELL {1 << 2 | 1 << 31} {value}", "\\_SB.PCI0.S03._EJ0 1", "\\_GPE._E01"]
    commands = ";".join(f"execute {method}" for method in methods)
    run = ["acpiexec", "-b", commands, "dsdt.aml"]
    said = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=30).stdout
    notified = re.findall(r"Notify on \[(\w+)\] \S+ Value (\S+)", said)
    assert sorted(notified) == [(slot, f"0x{value:02X}") for slot in ("S02_", "S1F_")]
    assert said.count("No object was returned from evaluation") == len(methods)
    assert "AE_" not in said


def test_they_are_the_same_wherever_they_lie() -> None:
    rsdp, tables = build_tables(PROCESSORS)
    assert {one.size for one in tables.pointers} == {4, 8}
    with GuestRam(2 * MIB) as ram:
        ram.write(0x40000, rsdp.at(0x80000))
        ram.write(0x80000, tables.at(0x80000))
        assert set(tables_in(ram, 0x40000)) == {"XSDT", "FACP", "APIC", "MCFG", "DSDT"}
