"""A guest of 72 bytes that writes when it is told to: each time it copies itself to another sector of its disk.

It says ``>``, and for each byte that it reads ``w``, when the boot sector is in sector 8, then in 9, and so on, or
``e``, if it could not write. The number of the sector is a part of what it writes.
"""

from __future__ import annotations

from pathlib import Path

SECTOR = 512
FIRST = 8
"""The sector that it writes to first."""
_NUMBER_AT = 0x40
_PROGRAM = """
    fa                start: cli
    31c0                     xorw %ax, %ax
    8ed8                     movw %ax, %ds
    8ed0                     movw %ax, %ss
    bc0070                   movw $0x7000, %sp
    52                       pushw %dx              the disk's number is in %dl
    fb                       sti
    baf803                   movw $0x3f8, %dx       serial port
    b03e                     movb $'>', %al
    ee                       outb %al, %dx
    bafd03             poll: movw $0x3fd, %dx       line status
    ec                       inb %dx, %al
    a801                     testb $1, %al          is there a byte?
    74f8                     jz poll
    baf803                   movw $0x3f8, %dx
    ec                       inb %dx, %al
    5a                       popw %dx
    52                       pushw %dx
    be387c                   movw $packet, %si
    b80043                   movw $0x4300, %ax      the BIOS's extended write
    cd13                     int $0x13
    b077                     movb $'w', %al
    7302                     jnc say
    b065                     movb $'e', %al
    baf803              say: movw $0x3f8, %dx
    ee                       outb %al, %dx
    fe06407c                 incb packet + 8
    ebda                     jmp poll
    1000010000            packet: .word 16, 1, 0x7c00, 0; .quad 8
    7c00000800
    0000000000
    00
"""


def boot_sector(number: int = FIRST) -> bytes:
    """As it is in memory when that sector is the next."""
    code = bytearray(b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines()))
    code[_NUMBER_AT] = number
    return bytes(code.ljust(SECTOR - 2, b"\0") + b"\x55\xaa")


def make_disk(path: Path) -> Path:
    """A raw disk of 1 MiB that boots into it."""
    path.write_bytes(boot_sector().ljust(1 << 20, b"\0"))
    return path


def content(writes: int) -> bytes:
    """Of the disk, after so many writes."""
    written = b"".join(boot_sector(FIRST + number) for number in range(writes))
    return (boot_sector().ljust(FIRST * SECTOR, b"\0") + written).ljust(1 << 20, b"\0")
