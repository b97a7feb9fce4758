"""A boot ROM for a machine that has nothing else: it does what every operating system does first.

From the reset vector through protected to long mode with paging, a locked 16-byte exchange, an SSE
store, twenty million turns of a loop, then a wait for the local APIC's timer; the interrupt's handler
writes `SUCCESS` to the exit port. A KVM that emulates instructions instead of running them does not
get there: it refuses one of them, or takes minutes.
"""

from __future__ import annotations

EXIT_PORT = 0xF4
SUCCESS = 0x21

_SIZE = 64 * 1024
_ENTRY = 0xF000
"""Where the program is in the ROM, which ends at 4 GiB: the program starts at 0xfffff000."""
_RESET_VECTOR = 0xFFF0

_PROGRAM = """
    fa                      start: cli
    2e660f011638f1                 lgdtl %cs:gdtr
    0f20c0                         movl %cr0, %eax
    0c01                           orb $1, %al
    0f22c0                         movl %eax, %cr0
    66ea18f0ffff0800               ljmpl $0x08, $code32
    66b81000               code32: movw $0x10, %ax
    8ed8                           movw %ax, %ds
    8ed0                           movw %ax, %ss
    c7050010000003200000           movl $0x2003, 0x1000             page tables: level 4,
    c7050020000003300000           movl $0x3003, 0x2000             level 3 for the first and
    c7051820000003400000           movl $0x4003, 0x2018             for the fourth GiB,
    c7050030000083000000           movl $0x83, 0x3000               the first 2 MiB of RAM,
    c705b84f00009300e0fe           movl $0xfee00093, 0x4fb8         the local APIC, uncached,
    c705f84f00008300e0ff           movl $0xffe00083, 0x4ff8         and this ROM
    b820060000                     movl $0x620, %eax                PAE and SSE
    0f22e0                         movl %eax, %cr4
    b800100000                     movl $0x1000, %eax
    0f22d8                         movl %eax, %cr3
    b9800000c0                     movl $0xc0000080, %ecx           EFER:
    0f32                           rdmsr
    80cc01                         orb $1, %ah                      long mode
    0f30                           wrmsr
    b811000080                     movl $0x80000011, %eax           paging
    0f22c0                         movl %eax, %cr0
    ea87f0ffff1800                 ljmpl $0x18, $code64
    bc00800000             code64: movl $0x8000, %esp
    bb00500000                     movl $0x5000, %ebx
    f0480fc70b                     lock cmpxchg16b (%rbx)
    0f29042510500000               movaps %xmm0, 0x5010
    b9002d3101                     movl $20000000, %ecx
    ffc9                        1: decl %ecx
    75fc                           jnz 1b
    b0ff                           movb $0xff, %al                  no interrupts from the 8259s
    e621                           outb %al, $0x21
    e6a1                           outb %al, $0xa1
    c704250062000011f11800         movl $0x18f111, 0x6200           vector 0x20 is `handler`
    c7042504620000008effff         movl $0xffff8e00, 0x6204
    66c7042520500000ff0f           movw $0xfff, 0x5020
    c704252250000000600000         movl $0x6000, 0x5022
    0f011c2520500000               lidt 0x5020
    bb0000e0fe                     movl $0xfee00000, %ebx           local APIC:
    c783f0000000ff010000           movl $0x1ff, 0xf0(%rbx)          enabled,
    c7832003000020000000           movl $0x20, 0x320(%rbx)          timer, once, vector 0x20,
    c783e00300000b000000           movl $0xb, 0x3e0(%rbx)           counts undivided
    c7838003000000000100           movl $0x10000, 0x380(%rbx)       from here
    fb                             sti
    f4                          1: hlt
    ebfd                           jmp 1b
    b021                  handler: movb $0x21, %al
    e6f4                           outb %al, $0xf4
    f4                          1: hlt
    ebfd                           jmp 1b
    0000000000000000          gdt: .quad 0
    ffff0000009bcf00               .quad 0x00cf9b000000ffff         0x08: 32-bit code
    ffff00000093cf00               .quad 0x00cf93000000ffff         0x10: data
    ffff0000009baf00               .quad 0x00af9b000000ffff         0x18: 64-bit code
    1f00                     gdtr: .word 31
    18f1ffff                       .long gdt
"""

_JUMP_TO_ENTRY = bytes.fromhex("e90df0")


def probe_rom() -> bytes:
    """The ROM's contents."""
    rom = bytearray(_SIZE)
    program = b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines())
    rom[_ENTRY : _ENTRY + len(program)] = program
    rom[_RESET_VECTOR : _RESET_VECTOR + len(_JUMP_TO_ENTRY)] = _JUMP_TO_ENTRY
    return bytes(rom)
