"""A guest of 55 bytes: a boot sector that talks on the serial port and knows how to power off.

It says ``>``, echoes what it reads, and powers off (ACPI, at q35's fixed ports) when it reads ``q`` or
somebody presses the power button.
"""

from __future__ import annotations

from pathlib import Path

_PROGRAM = """
    fa           start: cli
    ba0206              movw $0x602, %dx       PM1_EN:
    b80001              movw $0x100, %ax       the power button
    ef                  outw %ax, %dx
    baf803              movw $0x3f8, %dx       serial port
    b03e                movb $'>', %al
    ee                  outb %al, %dx
    ba0006        poll: movw $0x600, %dx       PM1_STS
    ed                  inw %dx, %ax
    f6c401              testb $1, %ah          was it pressed?
    7511                jnz off
    bafd03              movw $0x3fd, %dx       line status
    ec                  inb %dx, %al
    a801                testb $1, %al          is there a byte?
    74ef                jz poll
    baf803              movw $0x3f8, %dx
    ec                  inb %dx, %al
    ee                  outb %al, %dx
    3c71                cmpb $'q', %al
    75e6                jne poll
    ba0406         off: movw $0x604, %dx       PM1_CNT
    b80020              movw $0x2000, %ax      soft off
    ef                  outw %ax, %dx
    ebf7                jmp off
"""


def make_disk(path: Path) -> Path:
    """A raw disk of 1 MiB that boots into it."""
    return make_bootable(path, _PROGRAM)


def make_bootable(path: Path, program: str) -> Path:
    """A raw disk of 1 MiB that boots into the program, whose lines begin with its bytes in hexadecimal."""
    code = b"".join(bytes.fromhex(line.split()[0]) for line in program.strip().splitlines())
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    with path.open("r+b") as disk:
        disk.truncate(1024 * 1024)
    return path
