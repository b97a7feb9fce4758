"""Guests of a few bytes in real mode, on this machine's own /dev/kvm: where it cannot be used, their tests fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.interrupts import Chip
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vcpu import Vcpu
from compute_agent.virt.kvm.vm import Vm

SIZE = 64 << 10
CODE, HANDLER, STACK = 0x1000, 0x2000, 0x8000
DONE = 0x10
"""The port that a guest writes to when it has nothing left to do: ``e6 10``, or ``e4 10`` for an answer."""
FIRST_VECTOR = 0x20
"""Of the PIC, after `Toy.enable_pic`."""
PATIENCE = 20.0
"""Seconds that a thread has; none needs one."""

_PIC_COMMAND, _PIC_MASK = 0x20, 0x21
_PIC_LEVELS = 8
"""Where in the state of a PIC its inputs' levels are, as it has seen them last."""


@dataclass
class Toy:
    """A machine with one processor."""

    vm: Vm
    vcpu: Vcpu
    memory: GuestMemory
    board: Board | None

    def load(self, code: str, address: int = CODE) -> None:
        """Machine code, in hexadecimal numbers."""
        self.write(address, bytes.fromhex(code))

    def write(self, address: int, content: bytes) -> None:
        self.memory.content[address : address + len(content)] = content

    def handle_interrupt(self, vector: int, code: str) -> None:
        """Let it be answered by code."""
        self.write(4 * vector, HANDLER.to_bytes(4, "little"))
        self.load(code, HANDLER)

    def start(self, code: str, *, interrupts: bool = False) -> None:
        """Put the processor there, in real mode, all segments at 0; whatever it was in the middle of."""
        self.finish_exit()
        self.load(code)
        special = self.vcpu.special_registers()
        for name in ("cs", "ds", "es", "ss"):
            segment = getattr(special, name)
            segment.base = segment.selector = 0
        self.vcpu.set_special_registers(special)
        flags = 0x202 if interrupts else 0x002
        self.vcpu.set_registers(ffi.new("struct kvm_regs *", {"rip": CODE, "rsp": STACK, "rflags": flags}))

    def finish_exit(self) -> None:
        """Let the last instruction have what it was answered."""
        assert self.vcpu.complete_io() == ExitReason.KVM_EXIT_INTR
        self.vcpu.clear_kick()

    def run(self) -> ExitReason:
        """On a thread of its own, which is done when it returns."""
        return Running(self.vcpu).reason()

    def run_to_end(self, code: str) -> None:
        self.start(code)
        self.expect_done()

    def expect_done(self) -> None:
        assert self.run() == ExitReason.KVM_EXIT_IO
        assert self.vcpu.shared.io.port == DONE

    def out_byte(self, port: int, value: int) -> None:
        self.run_to_end(f"ba {_word(port)} b0 {value:02x} ee e6 10")

    def in_byte(self, port: int) -> int:
        self.run_to_end(f"ba {_word(port)} ec e6 10")
        return self.vcpu.registers().rax & 0xFF

    def exit_data(self) -> bytes:
        """What the port was written that the processor has stopped for."""
        io = self.vcpu.shared.io
        start = ffi.cast("char *", self.vcpu.shared) + io.data_offset
        return bytes(ffi.buffer(start, io.size * io.count))

    def answer(self, data: bytes) -> None:
        """What the port reads as that the processor has stopped for."""
        ffi.buffer(ffi.cast("char *", self.vcpu.shared) + self.vcpu.shared.io.data_offset, len(data))[:] = data

    def enable_pic(self, gsi: int) -> None:
        """The first PIC interrupts with `FIRST_VECTOR` + GSI, and only for that one; each ends by itself."""
        for port, value in (
            (_PIC_COMMAND, 0x11),
            (_PIC_MASK, FIRST_VECTOR),
            (_PIC_MASK, 1 << 2),
            (_PIC_MASK, 0x03),
            (_PIC_MASK, 0xFF & ~(1 << gsi)),
        ):
            self.out_byte(port, value)

    def line(self, gsi: int) -> bool:
        """Whether an input of the first PIC is high."""
        return bool(self.vm.chip_state(Chip.PIC_MASTER)[_PIC_LEVELS] & 1 << gsi)


class Running:
    """A thread that runs a vCPU once."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._reason = -1
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reason(self) -> ExitReason:
        """Why it has stopped; or it fails soon."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._vcpu.kick()
            self._thread.join(PATIENCE)
            raise AssertionError("the guest did not stop")
        return ExitReason(self._reason)

    def _run(self) -> None:
        self._reason = self._vcpu.run()


@contextmanager
def toy(*, interrupts: bool = False, log: int | None = None) -> Iterator[Toy]:
    """:param log: for the serial port, or -1; where it is given, there is a board."""
    with ExitStack() as stack:
        device = stack.enter_context(Device())
        memory = stack.enter_context(GuestMemory(SIZE))
        vm = stack.enter_context(device.create_vm())
        if interrupts:
            vm.create_interrupt_controllers()
        vm.add_memory(0, 0, memory)
        board = vm.create_board(log) if log is not None else None
        yield Toy(vm, stack.enter_context(vm.create_vcpu(0, board)), memory, board)


def _word(number: int) -> str:
    return number.to_bytes(2, "little").hex()
