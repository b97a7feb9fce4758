"""A guest of 79 bytes whose driver gives up its disk and begins again to use it, hundreds of times a second.

Each time it says on the serial port what became of the device's status: ``7``, if all is as it believes. It reaches
the device through its PCI configuration space, which is where QEMU puts it for the first device behind a root port.

Source: Virtual I/O Device 1.2, 4.1.4.9 (PCI configuration access capability).
"""

from __future__ import annotations

from pathlib import Path

from tests.processes.virt.tiny_guest import make_bootable

_PROGRAM = """
    fa           start: cli
    66b8cc000180        movl $0x800100cc, %eax  the capability, at 0xc8: bar
    b104                movb $4, %cl
    e83600              call put
    66b8d0000180        movl $0x800100d0, %eax  its offset
    b114                movb $0x14, %cl         device_status
    e82b00              call put
    66b8d4000180        movl $0x800100d4, %eax  its length
    b101                movb $1, %cl
    e82000              call put
    66b8d8000180 again: movl $0x800100d8, %eax  pci_cfg_data
    30c9                xorb %cl, %cl           reset
    e81500              call put
    b107                movb $7, %cl            ACKNOWLEDGE, DRIVER, DRIVER_OK
    e81000              call put
    ec                  inb %dx, %al
    0430                addb $'0', %al
    baf803              movw $0x3f8, %dx        serial port
    ee                  outb %al, %dx
    b9d007              movw $2000, %cx         leave QEMU's main loop some time
    e680          rest: outb %al, $0x80
    e2fc                loop rest
    ebe0                jmp again
    baf80c         put: movw $0xcf8, %dx        a byte to configuration space
    66ef                outl %eax, %dx
    b2fc                movb $0xfc, %dl
    86c1                xchgb %al, %cl
    ee                  outb %al, %dx
    86c1                xchgb %al, %cl
    c3                  ret
"""


def make_restless_disk(path: Path) -> Path:
    """A raw disk of 1 MiB that boots into it."""
    return make_bootable(path, _PROGRAM)
