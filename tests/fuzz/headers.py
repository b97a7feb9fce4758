"""The beginnings of files that say what they are: disk images of every format that is known, and kernels."""

from __future__ import annotations

import struct

MIB = 1024**2
_LENGTH = 128 * 1024
"""Bytes that each is made of: what inspectors look for lies within."""


def qcow2(version: int = 3) -> bytes:
    """With an extension that names a backing file's format, and one with names of features."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, 16, 64 * MIB, 0, 1, 3 << 16, 1 << 16, 1, 0, 0)
    if version == 3:
        header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
        header += struct.pack(">II", 0x6803F857, 48) + b"\0\0dirty bit".ljust(48, b"\0") + bytes(8)
    return header.ljust(_LENGTH, b"\0")


def qed() -> bytes:
    return struct.pack("<4sIIIQQQQQ", b"QED\0", 65536, 4, 1, 0, 0, 0, 65536, 64 * MIB).ljust(_LENGTH, b"\0")


def vmdk() -> bytes:
    """Sparse, with its description."""
    header = struct.pack("<4sIIQQQQIQQQB", b"KDMV", 1, 3, 131072, 128, 1, 20, 512, 21, 26, 128, 0)
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\n'
    return (header.ljust(512, b"\0") + text + b'RW 131072 SPARSE "disk.vmdk"\n').ljust(_LENGTH, b"\0")


def vhd() -> bytes:
    head = struct.pack(
        ">8sIIQI4sI4sQQHBBI", b"conectix", 2, 0x10000, 512, 0, b"qemu", 1, b"Wi2k", MIB, MIB, 30, 4, 17, 3
    )
    return head.ljust(512, b"\0").ljust(_LENGTH, b"\0")


def vhdx() -> bytes:
    content = bytearray(_LENGTH * 4)
    content[:8] = b"vhdxfile"
    region = struct.pack("<4sIII", b"regi", 0, 1, 0)
    region += bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e") + struct.pack("<QII", 0x40000, 65536, 1)
    content[0x30000 : 0x30000 + len(region)] = region
    content[0x40000:0x40040] = struct.pack("<8sHH20x", b"metadata", 0, 1) + bytes(32)
    return bytes(content)


def vdi() -> bytes:
    text = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    return (text + struct.pack("<II", 0xBEDA107F, 0x00010001) + bytes(296) + struct.pack("<Q", MIB)).ljust(
        _LENGTH, b"\0"
    )


def iso() -> bytes:
    return (bytes(32768) + b"\1CD001\1".ljust(80, b"\0") + struct.pack("<I", 100)).ljust(_LENGTH, b"\0")


def luks() -> bytes:
    return struct.pack(">6sH32s32s32sI", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", 4096).ljust(
        _LENGTH, b"\0"
    )


def mbr(kind: int = 0x83) -> bytes:
    """0xEE: a GPT follows."""
    entry = struct.pack("<B3BB3BII", 0x80 if kind == 0x83 else 0, 0, 2, 0, kind, 0xFF, 0xFF, 0xFF, 1, 2047)
    header = struct.pack("<8sIIIIQQQQ", b"EFI PART", 0x10000, 92, 0, 0, 1, 255, 34, 222)
    return ((bytes(446) + entry + bytes(48) + b"\x55\xaa") + header).ljust(_LENGTH, b"\0")


def elf() -> bytes:
    """A kernel with two notes, one of which has its PVH entry, and a segment."""
    place, code, virtual = 2 * MIB, b"code" * 100, 0xFFFFFFFF80200000
    notes = struct.pack("<III4s8s", 4, 6, 6, b"Xen\0", b"linux\0") + struct.pack("<III4sI", 4, 4, 18, b"Xen\0", place)
    identity = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 2, 62, 1, place, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at = 64 + 2 * 56
    load = struct.pack("<IIQQQQQQ", 1, 7, at + len(notes), virtual, place, len(code), len(code) + MIB, 4096)
    return header + load + struct.pack("<IIQQQQQQ", 4, 4, at, 0, 0, len(notes), len(notes), 4) + notes + code


def bzimage() -> bytes:
    """Little of it is the kernel proper."""
    image = bytearray(4 * 512 + 4096)
    fields = (
        ("<B", 0x1F1, 3),
        ("<I", 0x1F4, 256),
        ("<B", 0x201, 0x6A),
        ("<I", 0x202, 0x53726448),
        ("<H", 0x206, 0x20F),
    )
    more = (("<B", 0x211, 0x81), ("<I", 0x22C, 0x7FFFFFFF), ("<H", 0x236, 0x3F), ("<I", 0x238, 2047))
    for layout, offset, value in (*fields, *more, ("<Q", 0x258, 4 * MIB), ("<I", 0x260, 2 * MIB)):
        struct.pack_into(layout, image, offset, value)
    return bytes(image)


IMAGES = (
    qcow2(),
    qcow2(),
    qcow2(2),
    qed(),
    vmdk(),
    vhd(),
    vhdx(),
    vdi(),
    iso(),
    luks(),
    mbr(),
    mbr(0xEE),
    elf(),
    bytes(_LENGTH),
)
KERNELS = (elf(), bzimage())
