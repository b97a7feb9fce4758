"""The devices of a machine that are answered in C, without Python: `native/board.h`.

They are the serial port at 0x3f8 (GSI 4), the power management timer at 0x608, and the ports 0x80 and 0x402, which
have nothing behind them.
"""

from __future__ import annotations

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.handle import CData


class Board:
    """`Vm.create_board` makes it, `Vm.create_vcpu` takes it. `serial` is the port, for who knows its wires."""

    def __init__(self, vm_fd: int, log: int) -> None:
        self.content: CData = ffi.new("struct board *")
        self.serial: CData = ffi.addressof(self.content, "serial")
        self._timer = ffi.addressof(self.content, "timer")
        lib.board_init(self.content, vm_fd, log)

    def timer_ticks(self) -> int:
        """What the power management timer shows the guest: 32 bits, 3.579545 million in a second."""
        ticks: int = lib.power_timer_ticks(self._timer)
        return ticks

    def set_timer_ticks(self, ticks: int) -> None:
        """Let it go on from there."""
        lib.power_timer_set(self._timer, ticks)
