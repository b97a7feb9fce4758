"""A PC's first serial port, a National Semiconductor PC16550D; its registers are in C: ``kvm/native/serial.h``."""

from __future__ import annotations

import socket

import msgspec

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.board import Board


class SerialState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    interrupts_enabled: int
    fifo_control: int
    line_control: int
    modem_control: int
    scratch: int
    divisor_low: int
    divisor_high: int
    errors: int
    modem_changes: int
    is_emptied: int
    waiting: bytes
    """What the guest has not read yet."""


_REGISTERS = [name for name in SerialState.__struct_fields__ if name != "waiting"]


class SerialCounters(msgspec.Struct, frozen=True):
    """Bytes."""

    transmitted: int
    """By the guest."""
    received: int
    """By the port, for the guest."""
    dropped: int
    """Of the transmitted, those which a client did not take."""


class SerialPort:
    """What the guest writes goes to the board's log, and to a client; it never waits for either. From any thread."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._port = board.serial

    def attach_client(self, client: socket.socket) -> None:
        """Let a connected socket get what the guest writes from now on, instead of the one before.

        What it does not take at once is lost to it. It stays the caller's, and open until another one is attached.
        """
        lib.serial_attach(self._port, client.fileno())

    def detach_client(self) -> None:
        """On return the client's socket is not used any more."""
        lib.serial_attach(self._port, -1)

    def receive(self, data: bytes) -> int:
        """Give the guest what was typed; how many bytes there was room for. The rest is for the caller to try again."""
        taken: int = lib.serial_receive(self._port, data, len(data))
        return taken

    def reset(self) -> None:
        """As after power-on; what was received is lost."""
        lib.serial_reset(self._port)

    def state(self) -> SerialState:
        registers, waiting = ffi.new("struct serial_registers *"), ffi.new("uint8_t[]", lib.QUEUE_SIZE)
        length = lib.serial_save(self._port, registers, waiting)
        values = {name: getattr(registers, name) for name in _REGISTERS}
        return SerialState(**values, waiting=bytes(ffi.buffer(waiting, length)))

    def restore(self, state: SerialState) -> None:
        """The interrupt controllers are restored already: they are told the level of its interrupt."""
        registers = ffi.new("struct serial_registers *", {name: getattr(state, name) for name in _REGISTERS})
        lib.serial_restore(self._port, registers, state.waiting, len(state.waiting))

    def counters(self) -> SerialCounters:
        counted = self._port.counters
        return SerialCounters(counted.transmitted, counted.received, counted.dropped)
