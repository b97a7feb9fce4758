"""A stopped machine in a file: what it was doing, and its memory.

The file is a magic number, the length of the state, the state (MessagePack), then pieces of memory that are not all
zeros, each with its place, length and CRC-32, then an empty piece. Numbers are little-endian, of 64 bits.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import msgspec

from compute_agent.errors import InvalidImage, RecordTooNew
from compute_agent.virt.vmm.chipset import ChipsetState
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.processor_set import ProcessorSetState
from compute_agent.virt.vmm.serial import SerialState
from compute_agent.virt.vmm.virtio.pci import VirtioPciState

VERSION = 1
"""Of `MachineState` and the layout of the file; a file of a later one is refused."""
_HEADER = struct.Struct("<8sQQ")
_MAGIC = b"CAGT-VMM"
_PIECE = struct.Struct("<QQQ")
_LARGEST_PIECE = 4 * 1024**2
_LARGEST_STATE = 64 * 1024**2


class MachineState(msgspec.Struct, frozen=True, kw_only=True):
    """All but the memory."""

    memory: int
    """Its size in bytes."""
    processors: ProcessorSetState
    chipset: ChipsetState
    serial: SerialState
    devices: Mapping[str, VirtioPciState]


def encode_state(state: MachineState) -> bytes:
    """For a file, or another host's process."""
    return msgspec.msgpack.encode(state)


def decode_state(content: bytes | memoryview, ram: GuestRam) -> MachineState:
    """What `encode_state` has made, of a machine with as much memory.

    :raises InvalidImage: of ``saved_state``: it is damaged, or has another size of memory.
    """
    try:
        state = msgspec.msgpack.decode(content, type=MachineState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidImage("saved_state", VERSION, f"damaged: {error}") from error
    if state.memory != ram.size:
        raise InvalidImage("saved_state", state.memory, f"the machine has {ram.size} bytes of memory")
    return state


def write_state(file: BinaryIO, state: MachineState, ram: GuestRam, go_on: Callable[[int], bool]) -> None:
    """:param go_on: is told how many bytes of memory have been written, and says whether to write more.

    :raises OSError: the file cannot be written.
    :raises InterruptedError: it was not to go on; the file is not whole.
    """
    content, written = encode_state(state), 0
    file.write(_HEADER.pack(_MAGIC, VERSION, len(content)) + content)
    for start, piece in _pieces(ram):
        if not go_on(written):
            raise InterruptedError("the machine was not to be saved any more")
        file.write(_PIECE.pack(start, len(piece), zlib.crc32(piece)))
        file.write(piece)
        written += len(piece)
    file.write(_PIECE.pack(0, 0, 0))
    file.flush()


def read_state(file: BinaryIO, ram: GuestRam) -> MachineState:
    """What was written, its memory filled into `ram`, which is new.

    :raises InvalidImage: of ``saved_state``: it is none, or damaged, or of a machine with another size of memory.
    :raises RecordTooNew: a later version has written it.
    """
    magic, version, length = _HEADER.unpack(_exactly(file, _HEADER.size))
    if magic != _MAGIC or length > _LARGEST_STATE:
        raise InvalidImage("saved_state", magic, "not a machine's saved state")
    if version > VERSION:
        raise RecordTooNew(f"saved_state: version {version}; this agent knows {VERSION}")
    state = decode_state(_exactly(file, length), ram)
    for start, piece in _read_pieces(file):
        if start + len(piece) > ram.size:
            raise InvalidImage("saved_state", start, "damaged: memory beyond the machine's")
        ram.fill(start, piece)
    return state


def _pieces(ram: GuestRam) -> Iterator[tuple[int, memoryview]]:
    """What the guest has touched; where it has not, the memfd has holes."""
    place = 0
    while place < ram.size:
        try:
            start = os.lseek(ram.fd, place, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        end = os.lseek(ram.fd, start, os.SEEK_HOLE)
        for at in range(start, end, _LARGEST_PIECE):
            yield at, ram.content(at, min(_LARGEST_PIECE, end - at))
        place = end


def _read_pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    while True:
        start, length, checksum = _PIECE.unpack(_exactly(file, _PIECE.size))
        if not length:
            return
        if length > _LARGEST_PIECE:
            raise InvalidImage("saved_state", length, "damaged: too long a piece of memory")
        piece = _exactly(file, length)
        if zlib.crc32(piece) != checksum:
            raise InvalidImage("saved_state", hex(start), "damaged: this piece of memory is not what was written")
        yield start, piece


def _exactly(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise InvalidImage("saved_state", length, "truncated")
    return content
