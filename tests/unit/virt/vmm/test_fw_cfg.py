"""What firmware reads, in both ways."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.fw_cfg import PORTS, FwCfg, boot_order, memory_map
from compute_agent.virt.vmm.memory import HOLE, GuestRam
from tests.unit.virt.vmm.parts import MIB, Parts

FILES = {"etc/one": b"first", "etc/two": b"second file"}
SELECT, DATA, DMA_HIGH, DMA_LOW = 0, 1, 4, 8
ERROR, READ, SKIP, CHOOSE, WRITE = 1, 2, 4, 8, 16
REQUEST = 0x1000


class Firmware:
    def __init__(self, ram: GuestRam) -> None:
        self.ram, self.device = ram, FwCfg(ram, 3, FILES)

    def read(self, item: int, length: int) -> bytes:
        self.device.write(SELECT, 2, item)
        return bytes(self.device.read(DATA, 1) for _ in range(length))

    def dma(self, control: int, length: int, address: int, request: int = REQUEST) -> int:
        """The request's control field afterwards."""
        self.ram.write(REQUEST, struct.pack(">IIQ", control, length, address))
        for register, half in ((DMA_HIGH, request >> 32), (DMA_LOW, request & 0xFFFFFFFF)):
            self.device.write(register, 4, int.from_bytes(half.to_bytes(4, "big"), "little"))
        after: int = struct.unpack(">I", self.ram.read(REQUEST, 4))[0]
        return after

    def directory(self) -> dict[str, tuple[int, int]]:
        (count,) = struct.unpack(">I", self.read(0x19, 4))
        entries = self.read(0x19, 4 + 64 * count)[4:]
        return {
            name.rstrip(b"\0").decode(): (item, size) for size, item, _, name in struct.iter_unpack(">IHH56s", entries)
        }


@pytest.fixture
def firmware(parts: Parts) -> Firmware:
    return Firmware(parts.ram)


def test_it_is_known_by_its_signature(firmware: Firmware) -> None:
    assert firmware.read(0, 4) == b"QEMU"
    assert firmware.read(1, 4) == bytes([3, 0, 0, 0])
    high, low = (firmware.device.read(register, 4).to_bytes(4, "little") for register in (DMA_HIGH, DMA_LOW))
    assert high + low == b"QEMU CFG"


def test_numbers(firmware: Firmware) -> None:
    assert firmware.read(5, 2) == firmware.read(0xF, 2) == b"\x03\0"
    assert firmware.read(3, 8) == (4 * MIB).to_bytes(8, "little")


def test_files_byte_by_byte(firmware: Firmware) -> None:
    directory = firmware.directory()
    assert list(directory) == list(FILES)
    for name, (item, size) in directory.items():
        assert size == len(FILES[name])
        assert firmware.read(item, size + 2) == FILES[name] + b"\0\0"
    assert firmware.read(0x1234, 2) == b"\0\0"


def test_files_by_dma(firmware: Firmware) -> None:
    item, size = firmware.directory()["etc/two"]
    assert firmware.dma(item << 16 | CHOOSE | SKIP, 3, 0) == 0
    assert firmware.dma(READ, size, 0x2000) == 0
    assert firmware.ram.read(0x2000, size + 1) == b"ond file".ljust(size, b"\0") + b"\0"
    assert firmware.dma(item << 16 | CHOOSE, 0, 0) == 0
    assert firmware.read(item, 6) == b"second"


@pytest.mark.parametrize(
    ("control", "length", "address"),
    [(READ, 4, 4 * MIB - 2), (READ, 4, HOLE.start), (READ, 0xFFFFFFFF, 0), (SKIP, 0xFFFFFFFF, 0), (WRITE, 4, 0x2000)],
)
def test_what_cannot_be_done_is_an_error(firmware: Firmware, control: int, length: int, address: int) -> None:
    assert firmware.dma(0x20 << 16 | CHOOSE | control, length, address) == ERROR


def test_a_request_that_is_not_in_memory_is_none(firmware: Firmware) -> None:
    assert firmware.dma(0x20 << 16 | CHOOSE | READ, 5, 0x2000, request=1 << 40) == 0x20 << 16 | CHOOSE | READ
    assert firmware.ram.read(0x2000, 5) == bytes(5)


def test_a_suspended_machine_reads_on(firmware: Firmware) -> None:
    assert firmware.read(0x20, 2) == b"fi"
    other = Firmware(firmware.ram)
    other.device.restore(firmware.device.state())
    assert other.device.read(DATA, 1) == ord("r")


def test_memory_around_the_hole() -> None:
    with GuestRam(HOLE.start + 5 * MIB) as ram:
        assert memory_map(ram) == struct.pack("<QQIQQI", 0, HOLE.start, 1, HOLE.stop, 5 * MIB, 1)


def test_boot_order() -> None:
    assert boot_order([3, 17]) == b"/pci@i0cf8/scsi@3\n/pci@i0cf8/scsi@11\n"


_ACCESS = st.tuples(
    st.integers(0, len(PORTS) - 1),
    st.sampled_from([1, 2, 4]),
    st.one_of(st.integers(0, 0x40), st.integers(0, 2**32 - 1)),
)


@given(st.lists(_ACCESS, max_size=40), st.binary(min_size=16, max_size=64))
def test_nothing_that_is_written_to_it_hurts(accesses: list[tuple[int, int, int]], junk: bytes) -> None:
    with GuestRam(MIB) as ram:
        ram.write(0, junk)
        device = FwCfg(ram, 1, FILES)
        for offset, size, value in accesses:
            device.write(offset, size, value & (1 << 8 * size) - 1)
            assert device.read(offset, size) >= 0
