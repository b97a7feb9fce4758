"""Kernels in ELF files: what one is told at its entry, and which files are none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import ComputeAgentError, InsufficientResources, InvalidImage
from compute_agent.virt.vmm.boot.contents import examine_kernel, load_contents
from compute_agent.virt.vmm.boot.elf import ElfKernel
from compute_agent.virt.vmm.boot.layout import ACPI, BOOT_PARAMS, COMMAND_LINE, START_INFO
from compute_agent.virt.vmm.boot.linux import write_boot_params
from compute_agent.virt.vmm.boot.pvh import write_start_info
from compute_agent.virt.vmm.memory import HOLE, GuestRam
from tests.unit.virt.vmm.boot.test_linux import opened, param

MIB = 1024**2
PLACE, VIRTUAL = 2 * MIB, 0xFFFFFFFF80200000
CODE, ZEROS = b"code" * 100, 3 * MIB
LOAD, NOTE = 1, 4
HEADERS = 64 + 2 * 56
PVH = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", PLACE)
ANOTHER = struct.pack("<III4s8s", 4, 6, 6, b"Xen\0", b"linux\0")


def a_kernel(
    notes: bytes = b"", *, entry: int = PLACE, virtual: int = VIRTUAL, place: int = PLACE, code: str = CODE.hex()
) -> bytes:
    """The notes, and a segment: code, which begins with the first instruction, and zeros behind it."""
    content = bytes.fromhex(code)
    identity = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    size = len(content)
    load = struct.pack("<IIQQQQQQ", LOAD, 7, HEADERS + len(notes), virtual, place, size, size + ZEROS, 4096)
    note = struct.pack("<IIQQQQQQ", NOTE, 4, HEADERS, 0, 0, len(notes), len(notes), 4)
    return header + load + note + notes + content


def changed(layout: str, offset: int, value: int) -> bytes:
    image = bytearray(a_kernel(PVH))
    struct.pack_into(layout, image, offset, value)
    return bytes(image)


def test_one_with_a_pvh_entry_gets_xens_start_info() -> None:
    with (
        GuestRam(HOLE.start + 16 * MIB) as ram,
        opened(a_kernel(ANOTHER + PVH, entry=0)) as file,
        opened(b"ramdisk") as ramdisk,
    ):
        ram.write(PLACE + len(CODE), b"rubbish of the time before a reset")
        kernel = examine_kernel(file)
        assert isinstance(kernel, ElfKernel)
        assert (kernel.entry, kernel.has_pvh_entry) == (PLACE, True)
        write_start_info(ram, load_contents(ram, kernel, ramdisk, "console=ttyS0"))
        assert ram.read(PLACE, len(CODE) + 40) == CODE + bytes(40)
        magic, version, _, modules, module, command_line, rsdp, memory, pieces, _ = struct.unpack(
            "<IIIIQQQQII", ram.read(START_INFO, 56)
        )
        assert (magic, version, modules, command_line, rsdp) == (0x336EC578, 1, 1, COMMAND_LINE, ACPI.start)
        address, size, *_ = struct.unpack("<QQQQ", ram.read(module, 32))
        assert ram.read(address, size) == b"ramdisk"
        assert ram.read(command_line, 14) == b"console=ttyS0\0"
        entries = [struct.unpack("<QQII", ram.read(memory + 24 * number, 24)) for number in range(pieces)]
        assert (HOLE.stop, 16 * MIB, 1, 0) in entries
        assert sum(length for _, length, kind, _ in entries if kind == 1) == ram.size - (MIB - 0x9FC00)


def test_linux_without_one_gets_its_boot_parameters() -> None:
    with GuestRam(16 * MIB) as ram, opened(a_kernel(ANOTHER)) as file:
        kernel = examine_kernel(file)
        assert isinstance(kernel, ElfKernel)
        assert (kernel.entry, kernel.has_pvh_entry) == (PLACE, False)
        write_boot_params(ram, kernel.header, load_contents(ram, kernel, None, "quiet"))
        assert ram.read(BOOT_PARAMS + 0x202, 4) == b"HdrS"
        assert (param(ram, "<I", 0x228), param(ram, "<I", 0x21C)) == (COMMAND_LINE, 0)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (b"\x7fELF", "not an ELF file"),
        (a_kernel(PVH)[:100], "truncated"),
        (a_kernel(PVH)[:-1], "truncated"),
        (changed("<B", 4, 1), "another kind of machine"),
        (changed("<H", 18, 183), "another kind of machine .*183"),
        (changed("<Q", 64 + 8, 2**64 - 1), "truncated"),
        (changed("<Q", 64 + 56 + 32, 2**40), "at most"),
        (a_kernel(entry=0x401000, virtual=0x400000, place=0x400000), "no kernel: that is not where one begins"),
        (a_kernel(entry=PLACE - 1), "no kernel: that is not where one begins"),
        (a_kernel(PVH, place=0), "no kernel: one is loaded from 0x100000 on"),
        (a_kernel(entry=2**40, place=2**40), "beyond the first GiB"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: bytes, reason: str) -> None:
    with GuestRam(16 * MIB) as ram, opened(kernel) as file, pytest.raises(InvalidImage, match=rf"^kernel: .*{reason}"):
        load_contents(ram, examine_kernel(file), None, "quiet")


def test_its_zeros_need_memory_too() -> None:
    with (
        GuestRam(4 * MIB) as ram,
        opened(a_kernel(PVH)) as file,
        pytest.raises(InsufficientResources, match="of 6 MiB"),
    ):
        load_contents(ram, examine_kernel(file), None, "quiet")


GOOD = a_kernel(ANOTHER + PVH)


@given(st.integers(4, HEADERS + 60), st.binary(min_size=1, max_size=16), st.integers(4, len(GOOD)))
def test_any_file_is_taken_or_refused(at: int, bytes_there: bytes, length: int) -> None:
    spoiled = (GOOD[:at] + bytes_there + GOOD[at + len(bytes_there) :])[:length]
    with GuestRam(16 * MIB) as ram, opened(spoiled) as file:
        try:
            load_contents(ram, examine_kernel(file), None, "quiet")
        except ComputeAgentError as error:
            assert isinstance(error, InvalidImage | InsufficientResources)
