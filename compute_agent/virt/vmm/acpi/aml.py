"""The byte code in which ACPI's DSDT describes devices; as much of it as ours needs.

Source: ACPI 6.4, 20.2 (AML grammar); 19.3.4 and 6.1.5 (names of EISA devices). Docstrings say it in ASL.
"""

from __future__ import annotations

import struct

_ZERO, _ONE, _NAME, _BYTE, _WORD, _DWORD, _STRING, _QWORD = 0x00, 0x01, 0x08, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E
_SCOPE, _BUFFER, _PACKAGE, _METHOD = b"\x10", b"\x11", b"\x12", b"\x14"
_STORE, _AND, _NOTIFY, _IF = b"\x70", b"\x7b", b"\x86", b"\xa0"
_OPERATION_REGION, _FIELD, _DEVICE = b"\x5b\x80", b"\x5b\x81", b"\x5b\x82"
_PORT_SPACE = b"\x01"
_WHOLE_DWORDS = b"\x43"
"""Of a field: accessed four bytes at a time; what is not written in them is zero."""
_SERIALIZED = 0x08
_NOWHERE = b"\x00"
_MULTIPLE_NAMES, _TWO_NAMES = 0x2F, 0x2E

Data = int | str | bytes | list[int]
"""What a name can stand for: a number, a text, a buffer, a package of numbers."""


class EisaId(int):
    """A device's name, such as ``PNP0501``, as the number that AML has for it."""

    def __new__(cls, name: str) -> EisaId:
        first, second, third = (ord(letter) - 0x40 for letter in name[:3])
        packed = struct.pack(">HH", first << 10 | second << 5 | third, int(name[3:], 16))
        return super().__new__(cls, int.from_bytes(packed, "little"))


def integer(value: int) -> bytes:
    """The shortest form of it."""
    if value in (_ZERO, _ONE):
        return bytes([value])
    for prefix, layout in ((_BYTE, "<B"), (_WORD, "<H"), (_DWORD, "<I")):
        if value < 1 << 8 * struct.calcsize(layout):
            return bytes([prefix]) + struct.pack(layout, value)
    return bytes([_QWORD]) + struct.pack("<Q", value)


def data(value: Data) -> bytes:
    """A constant."""
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, str):
        return bytes([_STRING]) + value.encode("ascii") + b"\0"
    if isinstance(value, bytes):
        return _BUFFER + _with_length(integer(len(value)) + value)
    return _PACKAGE + _with_length(bytes([len(value)]) + b"".join(map(integer, value)))


def path(text: str) -> bytes:
    r"""A name such as ``_HID``, ``\_SB`` or ``\_SB.PCI0``."""
    root, relative = (b"\\", text[1:]) if text.startswith("\\") else (b"", text)
    segments = [segment.ljust(4, "_").encode("ascii") for segment in relative.split(".")]
    prefix = {1: b"", 2: bytes([_TWO_NAMES])}.get(len(segments), bytes([_MULTIPLE_NAMES, len(segments)]))
    return root + prefix + b"".join(segments)


def name(text: str, value: Data) -> bytes:
    """``Name (text, value)``"""
    return bytes([_NAME]) + path(text) + data(value)


def scope(text: str, *terms: bytes) -> bytes:
    """``Scope (text) {terms}``"""
    return _SCOPE + _with_length(path(text) + b"".join(terms))


def device(text: str, *terms: bytes) -> bytes:
    """``Device (text) {terms}``"""
    return _DEVICE + _with_length(path(text) + b"".join(terms))


def argument(number: int) -> bytes:
    """``Arg0`` to ``Arg6``"""
    return bytes([0x68 + number])


def method(text: str, arguments: int, *terms: bytes) -> bytes:
    """``Method (text, arguments, Serialized) {terms}``"""
    return _METHOD + _with_length(path(text) + bytes([arguments | _SERIALIZED]) + b"".join(terms))


def ports(text: str, addresses: range, *fields: str) -> bytes:
    """``OperationRegion`` and ``Field``: names for 32 bits each, one after the other."""
    region = _OPERATION_REGION + path(text) + _PORT_SPACE + integer(addresses.start) + integer(len(addresses))
    names = b"".join(path(field) + bytes([32]) for field in fields)
    return region + _FIELD + _with_length(path(text) + _WHOLE_DWORDS + names)


def store(value: bytes, target: str) -> bytes:
    """``target = value``"""
    return _STORE + value + path(target)


def if_bit(value: bytes, bit: int, *terms: bytes) -> bytes:
    """``If (value & (1 << bit)) {terms}``"""
    return _IF + _with_length(_AND + value + integer(1 << bit) + _NOWHERE + b"".join(terms))


def notify(target: str, value: bytes) -> bytes:
    """``Notify (target, value)``"""
    return _NOTIFY + path(target) + value


def call(text: str, *arguments: bytes) -> bytes:
    """``text (arguments)``"""
    return path(text) + b"".join(arguments)


def _with_length(content: bytes) -> bytes:
    """PkgLength counts itself: one byte up to 63, else 4 bits and one to three bytes."""
    if len(content) + 1 < 1 << 6:
        return bytes([len(content) + 1]) + content
    more = next(more for more in (1, 2, 3) if len(content) + 1 + more < 1 << 4 + 8 * more)
    length = len(content) + 1 + more
    return bytes([more << 6 | length & 0xF]) + (length >> 4).to_bytes(more, "little") + content
