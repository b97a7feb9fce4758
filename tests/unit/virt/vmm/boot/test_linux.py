"""Kernels: what is fit lies where the boot protocol says, what is not is refused before anything starts."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import ComputeAgentError, InsufficientResources, InvalidImage
from compute_agent.virt.vmm.boot.contents import Kernel, examine_kernel, load_contents
from compute_agent.virt.vmm.boot.layout import ACPI, BOOT_PARAMS, COMMAND_LINE
from compute_agent.virt.vmm.boot.linux import write_boot_params
from compute_agent.virt.vmm.memory import HOLE, GuestRam

MIB = 1024**2
SETUP, BODY = 4 * 512, 3 * MIB


def a_kernel(**changes: tuple[str, int, int]) -> bytes:
    """Laid out as the boot protocol says; `changes` are (format, offset, value)."""
    image = bytearray(SETUP + BODY)
    fields = {
        **{"setup_sects": ("<B", 0x1F1, 3), "syssize": ("<I", 0x1F4, BODY // 16), "jump": ("<B", 0x201, 0x6A)},
        **{"header": ("<I", 0x202, 0x53726448), "version": ("<H", 0x206, 0x20F), "loadflags": ("<B", 0x211, 0x81)},
        **{"initrd_addr_max": ("<I", 0x22C, 0x7FFFFFFF), "xloadflags": ("<H", 0x236, 0x3F)},
        **{
            "cmdline_size": ("<I", 0x238, 2047),
            "pref_address": ("<Q", 0x258, 16 * MIB),
            "init_size": ("<I", 0x260, 8 * MIB),
        },
    }
    for layout, offset, value in (fields | changes).values():
        struct.pack_into(layout, image, offset, value)
    image[SETUP : SETUP + 6] = b"kernel"
    return bytes(image)


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def load(ram: GuestRam, kernel: bytes, ramdisk: bytes | None = None, command_line: str = "quiet") -> Kernel:
    with opened(kernel) as file, opened(ramdisk or b"") as other:
        examined = examine_kernel(file)
        placed = load_contents(ram, examined, None if ramdisk is None else other, command_line)
        write_boot_params(ram, examined.header, placed)
        return examined


def param(ram: GuestRam, layout: str, offset: int) -> int:
    value: int = struct.unpack(layout, ram.read(BOOT_PARAMS + offset, struct.calcsize(layout)))[0]
    return value


def test_everything_is_where_the_protocol_says() -> None:
    with GuestRam(64 * MIB) as ram:
        loaded = load(ram, a_kernel(), b"ramdisk" * 1000, "console=ttyS0")
        assert loaded.entry == 16 * MIB + 0x200
        assert ram.read(16 * MIB, 6) == b"kernel"
        ramdisk, size = param(ram, "<I", 0x218), param(ram, "<I", 0x21C)
        assert (ramdisk, size, ram.read(ramdisk, 7)) == (64 * MIB - 2 * 4096, 7000, b"ramdisk")
        assert ram.read(COMMAND_LINE, 14) == b"console=ttyS0\0"
        assert param(ram, "<I", 0x228) == COMMAND_LINE
        assert (param(ram, "<B", 0x210), param(ram, "<B", 0x211)) == (0xFF, 0x81)
        assert param(ram, "<Q", 0x70) == ACPI.start
        assert param(ram, "<I", 0x202) == 0x53726448, "the header is there"


@pytest.mark.parametrize(("size", "pieces"), [(64 * MIB, 3), (HOLE.start + 64 * MIB, 4)])
def test_the_memory_map_is_all_of_the_memory(size: int, pieces: int) -> None:
    with GuestRam(size) as ram:
        load(ram, a_kernel())
        entries = [struct.unpack("<QQI", ram.read(BOOT_PARAMS + 0x2D0 + 20 * place, 20)) for place in range(pieces)]
        assert param(ram, "<B", 0x1E8) == pieces
        usable = sum(length for _, length, kind in entries if kind == 1)
        assert size - usable == MIB - 0x9FC00
        assert (ACPI.start, len(ACPI), 2) in entries


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (b"", "not a Linux kernel"),
        (a_kernel(version=("<H", 0x206, 0x209)), "too old: 2.12 is needed .*2.9"),
        (a_kernel(xloadflags=("<H", 0x236, 0)), "no 64-bit entry"),
        (a_kernel()[:-1], "truncated"),
        (a_kernel(syssize=("<I", 0x1F4, 0xFFFFFFFF)), "truncated"),
        (a_kernel(pref_address=("<Q", 0x258, 2**63)), "beyond the first GiB"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: bytes, reason: str) -> None:
    with GuestRam(64 * MIB) as ram, pytest.raises(InvalidImage, match=rf"^kernel: .*{reason}"):
        load(ram, kernel)


def test_what_does_not_fit_is_refused() -> None:
    with (
        GuestRam(20 * MIB) as ram,
        pytest.raises(InsufficientResources, match="needs a guest of 24 MiB, this one has 20"),
    ):
        load(ram, a_kernel())
    with GuestRam(25 * MIB) as ram, pytest.raises(InsufficientResources, match="ramdisk needs a guest of 26 MiB"):
        load(ram, a_kernel(), bytes(2 * MIB))
    low = a_kernel(initrd_addr_max=("<I", 0x22C, 25 * MIB - 1))
    with GuestRam(64 * MIB) as ram, pytest.raises(InvalidImage, match=f"^ramdisk: .* {MIB} bytes at most"):
        load(ram, low, bytes(2 * MIB))


@pytest.mark.parametrize("command_line", ["x" * 2048, "a\0b"])
def test_a_command_line_that_the_kernel_would_cut_is_refused(command_line: str) -> None:
    with GuestRam(64 * MIB) as ram, pytest.raises(InvalidImage, match=r"^command_line: is not text of at most 2047"):
        load(ram, a_kernel(), command_line=command_line)


HEAD = a_kernel()[:1024]


@given(st.integers(0, 1023), st.binary(min_size=1, max_size=16), st.integers(0, SETUP + BODY))
def test_any_header_is_taken_or_refused(at: int, bytes_there: bytes, length: int) -> None:
    spoiled = (HEAD[:at] + bytes_there + HEAD[at + len(bytes_there) :])[:1024].ljust(min(length, SETUP + 4096), b"\0")
    with GuestRam(32 * MIB) as ram, opened(spoiled) as file:
        os.ftruncate(file, length)
        try:
            load_contents(ram, examine_kernel(file), None, "quiet")
        except ComputeAgentError as error:
            assert isinstance(error, InvalidImage | InsufficientResources)
