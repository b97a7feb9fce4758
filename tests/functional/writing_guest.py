"""A guest of 50 bytes that writes to its disk: the boot sector copies itself to sector 8, and says ``w``."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from compute_agent.instance.devices import NbdSource, VhostUserSource

SECTOR = 512
COPY = 8 * SECTOR
"""Where it writes to."""
_SECONDS = 60.0
_PROGRAM = """
    fa                start: cli
    31c0                     xorw %ax, %ax
    8ed8                     movw %ax, %ds
    8ed0                     movw %ax, %ss
    bc0070                   movw $0x7000, %sp
    fb                       sti
    be227c                   movw $packet, %si
    b80043                   movw $0x4300, %ax      the BIOS's extended write; the disk's number is in %dl
    cd13                     int $0x13
    b077                     movb $'w', %al
    7302                     jnc say
    b065                     movb $'e', %al
    baf803              say: movw $0x3f8, %dx       serial port
    ee                       outb %al, %dx
    f4                  end: hlt
    ebfd                     jmp end
    9090                     nop; nop
    1000010000            packet: .word 16, 1, 0x7c00, 0; .quad 8
    7c00000800
    0000000000
    00
"""


def boot_sector() -> bytes:
    code = b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines())
    return code.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def make_disk(path: Path) -> Path:
    """A raw disk of 1 MiB that boots into it."""
    path.write_bytes(boot_sector().ljust(1 << 20, b"\0"))
    return path


def says_over_nbd(source: NbdSource) -> str:
    """What the guest says on a QEMU that inherits the connection."""
    node = f"driver=nbd,node-name=disk,export={source.export},server.type=fd,server.str={source.fd}"
    return _says(source.fd, ["-blockdev", node, "-device", "virtio-blk-pci,drive=disk,bootindex=0"])


def says_over_vhost_user(source: VhostUserSource) -> str:
    """The same with a virtio device that the block server itself is behind."""
    memory = ["-object", "memory-backend-memfd,id=ram,size=16M,share=on", "-machine", "memory-backend=ram"]
    device = ["-chardev", f"socket,id=disk,fd={source.fd}", "-device", "vhost-user-blk-pci,chardev=disk,bootindex=0"]
    return _says(source.fd, [*memory, *device])


def _says(inherited: int, arguments: Sequence[str]) -> str:
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none"]
    with subprocess.Popen(
        [*command, "-serial", "stdio", *arguments],
        pass_fds=[inherited],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as guest:
        assert guest.stdout is not None
        try:
            readable, _, _ = select.select([guest.stdout], [], [], _SECONDS)
            return os.read(guest.stdout.fileno(), 1).decode() if readable else ""
        finally:
            guest.kill()
