"""What firmware makes of the tables' files by the script is what is there without firmware."""

from __future__ import annotations

import struct

from compute_agent.virt.vmm.acpi.loader import acpi_files
from compute_agent.virt.vmm.acpi.tables import build_tables

PLACES = {"etc/acpi/rsdp": 0xF0000, "etc/acpi/tables": 0x7FE0000}


def run_script(files: dict[str, bytes]) -> dict[str, bytearray]:
    """As SeaBIOS does."""
    loaded: dict[str, bytearray] = {}
    script = files["etc/table-loader"]
    for start in range(0, len(script), 128):
        command = script[start : start + 128]
        (kind,), name = struct.unpack_from("<I", command), _text(command[4:60])
        if kind == 1:
            alignment, zone = struct.unpack_from("<IB", command, 60)
            assert PLACES[name] % alignment == 0
            assert (zone == 2) == (PLACES[name] < 0x100000)
            loaded[name] = bytearray(files[name])
        elif kind == 2:
            offset, size = struct.unpack_from("<IB", command, 116)
            target = loaded[name][offset : offset + size]
            place = int.from_bytes(target, "little") + PLACES[_text(command[60:116])]
            loaded[name][offset : offset + size] = place.to_bytes(size, "little")
        else:
            assert kind == 3
            offset, first, length = struct.unpack_from("<III", command, 60)
            loaded[name][offset] = loaded[name][offset] - sum(loaded[name][first : first + length]) & 0xFF
    return loaded


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode()


def test_both_ways_end_the_same() -> None:
    loaded = run_script(acpi_files(4))
    rsdp, tables = build_tables(4)
    assert loaded["etc/acpi/rsdp"] == rsdp.at(PLACES["etc/acpi/tables"])
    assert loaded["etc/acpi/tables"] == tables.at(PLACES["etc/acpi/tables"])
