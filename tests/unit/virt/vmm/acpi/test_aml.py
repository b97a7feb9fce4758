"""The shortest byte code, as the grammar has it."""

from __future__ import annotations

import pytest

from compute_agent.virt.vmm.acpi import aml


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a 02"),
        (255, "0a ff"),
        (256, "0b 00 01"),
        (0x10000, "0c 00 00 01 00"),
        (1 << 32, "0e 00 00 00 00 01 00 00 00"),
        (aml.EisaId("PNP0501"), "0c 41 d0 05 01"),
        ("AB", "0d 41 42 00"),
        (b"\x07\x08", "11 05 0a 02 07 08"),
        ([5, 0], "12 05 02 0a 05 00"),
    ],
)
def test_data(value: aml.Data, code: str) -> None:
    assert aml.data(value) == bytes.fromhex(code)


@pytest.mark.parametrize(
    ("text", "code"),
    [("_HID", b"_HID"), ("\\_SB", b"\\_SB_"), ("\\_SB.PCI0", b"\\\x2e_SB_PCI0"), ("A.B.C", b"\x2f\x03A___B___C___")],
)
def test_paths(text: str, code: bytes) -> None:
    assert aml.path(text) == code


@pytest.mark.parametrize(
    ("content", "length"), [(0, "05"), (58, "3f"), (59, "41 04"), (4089, "4f ff"), (4090, "81 00 01"), (1 << 20, None)]
)
def test_lengths_count_themselves(content: int, length: str | None) -> None:
    code = aml.scope("ABCD", bytes(content))
    if length is not None:
        assert code[1 : 1 + len(bytes.fromhex(length))] == bytes.fromhex(length)
    lead = code[1]
    more = lead >> 6
    counted = lead & 0x3F if more == 0 else lead & 0xF | int.from_bytes(code[2 : 2 + more], "little") << 4
    assert counted == len(code) - 1
