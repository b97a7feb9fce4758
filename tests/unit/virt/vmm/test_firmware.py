"""A machine's firmware: where the guest finds it, and which files it is offered."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from compute_agent.errors import InvalidImage
from compute_agent.virt.vmm.firmware import Firmware, firmware_files
from compute_agent.virt.vmm.memory import GuestRam

MIB = 1024**2


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("firmware")
    yield fd
    os.close(fd)


def test_its_end_is_at_4_gib_and_the_last_of_it_below_1_mib(file: int) -> None:
    content = bytes(range(256)) * 1024
    os.write(file, content)
    firmware = Firmware(file)
    assert firmware.address == 4 * 1024 * MIB - len(content)
    with GuestRam(4 * MIB) as ram:
        firmware.copy_low(ram)
        assert ram.read(MIB - 128 * 1024, 128 * 1024) == content[-128 * 1024 :]


@pytest.mark.parametrize("size", [0, 4095, 8 * MIB])
def test_a_file_of_another_size_is_refused(file: int, size: int) -> None:
    os.truncate(file, size)
    with pytest.raises(InvalidImage, match="firmware: not whole pages"):
        Firmware(file)


def test_disks_are_tried_in_the_order_of_their_slots() -> None:
    with GuestRam(4 * MIB) as ram:
        files = firmware_files(ram, 1, [5, 2])
    assert files["bootorder"] == b"/pci@i0cf8/scsi@5\n/pci@i0cf8/scsi@2\n"
    assert {"etc/e820", "etc/table-loader"} <= files.keys()
    assert files["etc/sercon-port"] == bytes.fromhex("f803")
