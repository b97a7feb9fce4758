"""What is in an image or kernel, found out before QEMU ever opens it.

An image that names other files (a backing file, a data file) would make QEMU read them for the guest.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Literal

from oslo_utils.imageutils.format_inspector import (
    FileInspector,
    ImageFormatError,
    InspectWrapper,
    SafetyCheckFailed,
)

from compute_agent.errors import InvalidImage, InvalidMessage, StorageError
from compute_agent.instance.block_device import SourceFile
from compute_agent.storage.qcow2.qemu_img import QemuImg

Kind = Literal["qcow2", "raw", "kernel", "ramdisk"]
"""What a source file is declared to be."""

MAX_VIRTUAL_SIZE = 64 * 1024**4
"""Bytes: as large as a block device may be."""

_SECTOR = 512
"""Bytes."""

_HEAD = 1024 * 1024
"""Bytes: every known format shows itself in fewer."""

_CONTENT = {"qcow2": {"qcow2"}, "raw": {"raw", "gpt"}}
"""What the inspector may find in each declared format; it calls any disk with a partition table ``gpt``."""


def inspect(path: Path, source: SourceFile, kind: Kind, qemu_img: QemuImg) -> None:
    """Look into a file whose content is still hostile.

    :raises InvalidImage: of ``url`` or ``disk_format``.
    :raises StorageError: qemu-img did not finish in time.
    """
    if path.stat().st_size == 0:
        raise InvalidImage("url", source.url, "the file is empty")
    if kind == "kernel":
        _inspect_kernel(path, source)
    elif kind != "ramdisk":
        _inspect_disk(path, source, kind)
        if kind == "qcow2":
            _inspect_tables(path, source, qemu_img)


def require_self_contained(path: Path, kind: Literal["qcow2", "raw"]) -> None:
    """A volume's header may have been written by a guest that had the file as a raw disk.

    :raises StorageError: it is not what it was said to be, or names another file.
    """
    if kind == "raw":
        return  # nobody reads a header in it
    try:
        found = _find_format(path)
        if str(found) != kind:
            raise StorageError(f"{path}: said to be {kind}, but the content is {found}")
        found.safety_check()
    except (SafetyCheckFailed, ImageFormatError) as error:
        raise StorageError(f"{path}: refused: {error}") from error


_LUKS1 = b"LUKS\xba\xbe\x00\x01"
_LUKS_FIELDS = struct.Struct(">104xI")
"""The one that says where the content begins, in sectors."""


def virtual_size(path: Path, kind: Kind) -> int:
    """Bytes that a guest sees of an image that was inspected: of qcow2 whole sectors, as QEMU has it."""
    if kind == "raw":
        return path.stat().st_size
    with path.open("rb") as file:
        (size,) = struct.unpack(">Q", file.read(32)[24:])
    return int(size) // _SECTOR * _SECTOR


def container_size(path: Path) -> int:
    """Bytes that a guest sees in a file that holds a LUKS container.

    :raises StorageError: it holds none.
    """
    with path.open("rb") as file:
        header = file.read(_LUKS_FIELDS.size)
    if len(header) < _LUKS_FIELDS.size or not header.startswith(_LUKS1):
        raise StorageError(f"{path} holds no LUKS container of version 1")
    (sectors,) = _LUKS_FIELDS.unpack(header)
    return path.stat().st_size - int(sectors) * _SECTOR


def require_growth(found: int, size: int) -> None:
    """:raises InvalidMessage: a disk of `found` bytes would be cut off at `size`."""
    if found > size:
        raise InvalidMessage("size_gb", size // 1024**3, f"the disk has {found} bytes, and no disk is ever cut off")


def _inspect_disk(path: Path, source: SourceFile, kind: Literal["qcow2", "raw"]) -> None:
    try:
        found = _find_format(path)
        if str(found) not in _CONTENT[kind]:
            raise InvalidImage("disk_format", kind, f"the content is {found}")
        if kind == "qcow2":
            # Not for raw: its partition table is the guest's own business, QEMU never reads it.
            found.safety_check()
    except SafetyCheckFailed as error:
        reasons = ", ".join(str(reason) for reason in error.failures.values())
        raise InvalidImage("url", source.url, f"refused: {reasons}") from error
    except ImageFormatError as error:
        raise InvalidImage("disk_format", kind, str(error)) from error
    if not 0 < (size := virtual_size(path, kind)) <= MAX_VIRTUAL_SIZE:
        raise InvalidImage("url", source.url, f"absurd virtual size of {size} bytes")


def _find_format(path: Path) -> FileInspector:
    with path.open("rb") as file:
        wrapper = InspectWrapper(io.BytesIO(file.read(_HEAD)))
    wrapper.read(_HEAD)
    wrapper.close()
    if wrapper.format is None:
        raise ImageFormatError("unknown content")
    return wrapper.format


def _inspect_tables(path: Path, source: SourceFile, qemu_img: QemuImg) -> None:
    """The header may be sound and the rest missing; only reading the tables shows it."""
    if problem := qemu_img.check(path):
        raise InvalidImage("url", source.url, f"corrupt or truncated: {problem}")


def _inspect_kernel(path: Path, source: SourceFile) -> None:
    with path.open("rb") as file:
        head = file.read(0x206)
    if head[0x202:] != b"HdrS" and not head.startswith(b"\x7fELF"):
        raise InvalidImage("url", source.url, "not a Linux kernel (bzImage, or an ELF file)")
