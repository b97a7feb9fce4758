"""What 32-bit and 64-bit code needs before its first instruction: page tables and the processor's mode."""

from __future__ import annotations

import struct

from compute_agent.virt.kvm.handle import CData

_PAGE = 4096
_LARGE_PAGE = 2 << 20
_ENTRIES = 512
_PRESENT_WRITABLE = 0x3
_LARGE = 0x80

_CR0_PROTECTION, _CR0_EXTENSION_TYPE, _CR0_NUMERIC_ERROR, _CR0_PAGING = 1 << 0, 1 << 4, 1 << 5, 1 << 31
_CR4_PHYSICAL_ADDRESS_EXTENSION, _CR4_SSE, _CR4_SSE_EXCEPTIONS = 1 << 5, 1 << 9, 1 << 10
_EFER_LONG_MODE_ENABLED, _EFER_LONG_MODE_ACTIVE = 1 << 8, 1 << 10

_CODE, _DATA = 0xB, 0x3
"""Types of segments: that may be executed and read, and written; both accessed."""


def identity_map(size: int, address: int) -> bytes:
    """Page tables for the first `size` bytes of memory, each found at its own address; large pages.

    :param size: at most 1 GiB.
    :param address: where they will be, a whole page; they are three pages long.
    """
    pages = -(-size // _LARGE_PAGE)
    upper = [address + _PAGE | _PRESENT_WRITABLE], [address + 2 * _PAGE | _PRESENT_WRITABLE]
    lowest = [page * _LARGE_PAGE | _PRESENT_WRITABLE | _LARGE for page in range(pages)]
    return b"".join(_table(entries) for entries in (*upper, lowest))


def _table(entries: list[int]) -> bytes:
    return struct.pack(f"<{_ENTRIES}Q", *entries, *[0] * (_ENTRIES - len(entries)))


def enter_long_mode(registers: CData, page_tables: int) -> None:
    """Change a ``struct kvm_sregs`` so that the vCPU executes 64-bit code, with SSE and flat segments.

    :param page_tables: the address of the topmost.
    """
    _set_segments(registers, long=True)
    registers.cr0 = _CR0_PROTECTION | _CR0_EXTENSION_TYPE | _CR0_NUMERIC_ERROR | _CR0_PAGING
    registers.cr3 = page_tables
    registers.cr4 = _CR4_PHYSICAL_ADDRESS_EXTENSION | _CR4_SSE | _CR4_SSE_EXCEPTIONS
    registers.efer = _EFER_LONG_MODE_ENABLED | _EFER_LONG_MODE_ACTIVE


def enter_protected_mode(registers: CData) -> None:
    """The same for 32-bit code, without paging."""
    _set_segments(registers, long=False)
    registers.cr0 = _CR0_PROTECTION | _CR0_EXTENSION_TYPE


def _set_segments(registers: CData, *, long: bool) -> None:
    _set_segment(registers.cs, selector=0x08, kind=_CODE, long=long)
    for name in ("ds", "es", "fs", "gs", "ss"):
        _set_segment(getattr(registers, name), selector=0x10, kind=_DATA, long=False)


def _set_segment(segment: CData, *, selector: int, kind: int, long: bool) -> None:
    segment.base, segment.limit, segment.selector, segment.type = 0, 0xFFFFFFFF, selector, kind
    segment.present, segment.s, segment.g, segment.dpl, segment.unusable = 1, 1, 1, 0, 0
    segment.l, segment.db = long, not long
