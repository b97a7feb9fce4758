"""Files over a connection, holes left out.

For each file: ``>Q`` bytes of a line of JSON (`FileHead`), the line, then for each part that is not a hole ``>QQ``,
where it begins and how long it is, with its bytes; ``>QQ`` of zeros ends the file. A head without a disk ends
the whole, and is answered with one byte when everything lasts.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from compute_agent.errors import StorageError
from compute_agent.storage.files import BLOCK

SILENCE = 600.0
"""Seconds without a byte after which the other host is given up: it may have much to write down before it goes on."""
_NUMBER, _PART = struct.Struct(">Q"), struct.Struct(">QQ")
_CHUNK = 4 * 1024 * 1024
_LONGEST_HEAD = 4096
_KEPT = b"\x06"


class FileHead(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a file before its bytes."""

    disk: str | None = None
    """The file's name, which begins with its disk's; None: there are no more."""
    size: int = 0
    """Bytes, with the holes."""
    taken: int = 0
    """Bytes without them."""


Sent = Callable[[int], None]
"""Called with the bytes of each chunk."""


def send_file(connection: socket.socket, disk: str, path: Path, sent: Sent) -> None:
    """:raises OSError: it cannot be read, or nobody takes it."""
    with path.open("rb", buffering=0) as file:
        head = FileHead(disk=disk, size=os.fstat(file.fileno()).st_size, taken=size_taken(path))
        _send_head(connection, head)
        for begin, end in _parts(file.fileno(), head.size):
            connection.sendall(_PART.pack(begin, end - begin))
            for offset in range(begin, end, _CHUNK):
                count = min(_CHUNK, end - offset)
                file.seek(offset)  # over TLS the first byte is taken to be where the file stands
                if connection.sendfile(file, offset, count) != count:
                    raise StorageError(f"{path} has become shorter while it was sent")
                sent(count)
        connection.sendall(_PART.pack(0, 0))


def finish_sending(connection: socket.socket) -> None:
    """There are no more. They last on the other host when this returns.

    :raises StorageError: they do not.
    """
    _send_head(connection, FileHead())
    if connection.recv(1) != _KEPT:
        raise StorageError("the other host has not kept the disks: its log says why")


def receive_head(connection: socket.socket) -> FileHead:
    """:raises StorageError: what comes is none, or nothing comes any more."""
    (length,) = _NUMBER.unpack(_receive(connection, _NUMBER.size))
    if length > _LONGEST_HEAD:
        raise StorageError(f"the head of a disk has {length} bytes")
    try:
        return msgspec.json.decode(_receive(connection, length), type=FileHead)
    except msgspec.DecodeError as error:
        raise StorageError(f"the head of a disk cannot be read: {error}") from None


def receive_file(connection: socket.socket, head: FileHead, path: Path) -> None:
    """Fill the file, which is made.

    :raises StorageError: a part lies outside of it, or the connection ends.
    :raises OSError: it cannot be written.
    """
    with path.open("wb") as file:
        file.truncate(head.size)
        while True:
            begin, length = _PART.unpack(_receive(connection, _PART.size))
            if not length:
                return
            if begin + length > head.size:
                raise StorageError(f"{head.disk}: a part at {begin} of {length} bytes is outside of it")
            _fill(connection, file.fileno(), begin, begin + length)


def confirm(connection: socket.socket) -> None:
    """Everything that was received lasts."""
    connection.sendall(_KEPT)


def pacer(bandwidth: int, sent: Sent) -> Sent:
    """Keeps to so many bytes a second; 0: as fast as it goes."""
    began, total = time.monotonic(), 0

    def pace(count: int) -> None:
        nonlocal total
        total += count
        sent(count)
        ahead = total / bandwidth - (time.monotonic() - began) if bandwidth else 0.0
        if ahead > 0:
            time.sleep(ahead)

    return pace


def size_taken(path: Path) -> int:
    """Bytes of a file without its holes."""
    return path.stat().st_blocks * BLOCK


def _send_head(connection: socket.socket, head: FileHead) -> None:
    line = msgspec.json.encode(head)
    connection.sendall(_NUMBER.pack(len(line)) + line)


def _parts(fd: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end


def _receive(connection: socket.socket, count: int) -> bytes:
    found = bytearray(count)
    _receive_into(connection, memoryview(found))
    return bytes(found)


def _receive_into(connection: socket.socket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if not count:
            raise StorageError("the other host has ended the connection early")
        view = view[count:]


def _fill(connection: socket.socket, fd: int, begin: int, end: int) -> None:
    buffer = memoryview(bytearray(min(_CHUNK, end - begin)))
    while begin < end:
        part = buffer[: end - begin]
        _receive_into(connection, part)
        written = 0
        while written < len(part):
            written += os.pwrite(fd, part[written:], begin + written)
        begin += len(part)
