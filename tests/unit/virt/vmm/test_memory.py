"""A guest's RAM is where the guest sees it, and nothing else is."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import BadGuestAddress, InsufficientResources
from compute_agent.virt.vmm.memory import HOLE, GuestRam, regions_of

MIB, GIB = 1024**2, 1024**3


@given(st.integers(1, 64 * 1024).map(lambda mib: mib * MIB))
def test_regions_are_all_of_it_and_leave_the_hole(size: int) -> None:
    regions = regions_of(size)
    assert sum(region.size for region in regions) == size
    assert [region.offset for region in regions] == [0, HOLE.start][: len(regions)]
    for region in regions:
        assert region.guest_address >= HOLE.stop or region.guest_addresses.stop <= HOLE.start


@pytest.mark.parametrize("address", [0, 5 * MIB - 3, HOLE.start - 4, HOLE.stop, HOLE.stop + 2 * MIB - 4])
def test_what_is_written_is_read_and_seen_by_who_shares_it(address: int) -> None:
    with GuestRam(HOLE.start + 2 * MIB) as ram:
        ram.write(address, b"here")
        assert ram.read(address, 4) == b"here"
        (region,) = (one for one in ram.regions if address in one.guest_addresses)
        offset = address - region.guest_address
        assert os.pread(ram.fd, 4, region.offset + offset) == b"here"
        assert ctypes.string_at(ram.host_address(region) + offset, 4) == b"here"


@pytest.mark.parametrize("address", [-1, 4 * MIB - 1, 4 * MIB, HOLE.start, HOLE.stop, 2**64 - 1])
def test_what_is_not_ram_is_refused_and_nothing_is_written(address: int, tmp_path: Path) -> None:
    (tmp_path / "two").write_bytes(b"xx")
    with GuestRam(4 * MIB) as ram, (tmp_path / "two").open() as file:
        with pytest.raises(BadGuestAddress):
            ram.read(address, 2)
        with pytest.raises(BadGuestAddress):
            ram.write(address, b"xx")
        with pytest.raises(BadGuestAddress):
            ram.fill_from(file.fileno(), 0, 2, address)
        assert ram.read(4 * MIB - 1, 1) == b"\0"


def test_a_file_is_read_into_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with GuestRam(MIB) as ram, (tmp_path / "file").open() as file:
        ram.fill_from(file.fileno(), 2, 5, 0x1000)
        assert ram.read(0xFFF, 8) == b"\x0023456\0\0"
        with pytest.raises(EOFError, match="1 bytes too early"):
            ram.fill_from(file.fileno(), 2, 9, 0x1000)


def test_nobody_can_take_it_away() -> None:
    with GuestRam(MIB) as ram:
        for size in (0, 2 * MIB):
            with pytest.raises(PermissionError):
                os.ftruncate(ram.fd, size)
    ram.close()


def test_more_than_there_is_of_huge_pages_is_refused() -> None:
    free = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  only their number
    with pytest.raises(InsufficientResources, match="MiB of memory for a guest"):
        GuestRam((free + 1) * 2 * MIB, huge_pages=True)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
