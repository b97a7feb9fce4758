"""Guests of a few bytes in real mode, on this machine's own /dev/kvm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vcpu import Vcpu
from compute_agent.virt.kvm.vm import Vm

SIZE = 64 << 10
CODE = 0x1000
STACK = 0x8000
PATIENCE = 20.0
"""Seconds that a thread has; none needs one."""


@dataclass
class Toy:
    """A machine with one processor."""

    vm: Vm
    vcpu: Vcpu
    memory: GuestMemory
    board: Board | None

    def load(self, code: str, address: int = CODE) -> None:
        """Machine code, in hexadecimal numbers."""
        program = bytes.fromhex(code)
        self.memory.content[address : address + len(program)] = program

    def handle_interrupt(self, vector: int, code: str, address: int = 0x2000) -> None:
        """Let it be answered by code."""
        self.memory.content[4 * vector : 4 * vector + 4] = address.to_bytes(4, "little")
        self.load(code, address)

    def start(self, address: int = CODE, *, interrupts: bool = False) -> None:
        """Put the processor there, in real mode, all segments at 0."""
        special = self.vcpu.special_registers()
        for name in ("cs", "ds", "es", "ss"):
            segment = getattr(special, name)
            segment.base = segment.selector = 0
        self.vcpu.set_special_registers(special)
        registers = self.vcpu.registers()
        registers.rip, registers.rsp, registers.rflags = address, STACK, 0x202 if interrupts else 2
        self.vcpu.set_registers(registers)

    def run_thread(self) -> Running:
        """Run it on another thread until it stops by itself."""
        return Running(self.vcpu.run)


class Running:
    """A thread, and what it has returned."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._result: list[int] = []
        self._thread = threading.Thread(target=lambda: self._result.append(work()), daemon=True)
        self._thread.start()

    def result(self) -> ExitReason:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the vCPU still runs"
        return ExitReason(self._result[0])


@contextmanager
def toy(*, interrupts: bool = False, log: int | None = None) -> Iterator[Toy]:
    """:param log: for the serial port; where it is given, there is a board."""
    with ExitStack() as stack:
        device = stack.enter_context(Device())
        memory = stack.enter_context(GuestMemory(SIZE))
        vm = stack.enter_context(device.create_vm())
        if interrupts:
            vm.create_interrupt_controllers()
        vm.add_memory(0, 0, memory)
        board = vm.create_board(log) if log is not None else None
        yield Toy(vm, stack.enter_context(vm.create_vcpu(0, board)), memory, board)
