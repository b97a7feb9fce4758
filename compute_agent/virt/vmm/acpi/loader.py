"""ACPI's tables as files for firmware, which chooses where they lie and settles pointers and checksums.

Source: QEMU's include/hw/acpi/bios-linker-loader.h, and hw/acpi/bios-linker-loader.c for what the commands mean.
"""

from __future__ import annotations

import struct

from compute_agent.virt.vmm.acpi.blob import Blob
from compute_agent.virt.vmm.acpi.tables import build_tables

_RSDP_FILE, _TABLES_FILE = b"etc/acpi/rsdp", b"etc/acpi/tables"
_SCRIPT_FILE = "etc/table-loader"
_ALLOCATE, _ADD_POINTER, _ADD_CHECKSUM = 1, 2, 3
_ANYWHERE, _BELOW_1_MIB = 1, 2
_COMMAND_SIZE = 128


def acpi_files(processors: int) -> dict[str, bytes]:
    """By their names; the last one is the script that puts the others in place."""
    rsdp, tables = build_tables(processors)
    parts = ((_RSDP_FILE, rsdp), (_TABLES_FILE, tables))
    commands = [
        struct.pack("<I56sIB", _ALLOCATE, _RSDP_FILE, 16, _BELOW_1_MIB),
        struct.pack("<I56sIB", _ALLOCATE, _TABLES_FILE, 64, _ANYWHERE),
        *(command for file, blob in parts for command in _pointers(file, blob)),
        *(command for file, blob in parts for command in _checksums(file, blob)),
    ]
    files = {file.decode(): bytes(blob.content) for file, blob in parts}
    return {**files, _SCRIPT_FILE: b"".join(command.ljust(_COMMAND_SIZE, b"\0") for command in commands)}


def _pointers(file: bytes, blob: Blob) -> list[bytes]:
    return [struct.pack("<I56s56sIB", _ADD_POINTER, file, _TABLES_FILE, one.offset, one.size) for one in blob.pointers]


def _checksums(file: bytes, blob: Blob) -> list[bytes]:
    return [struct.pack("<I56sIII", _ADD_CHECKSUM, file, one.offset, one.start, one.length) for one in blob.checksums]
