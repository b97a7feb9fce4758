"""One virtual CPU: running it, and stopping it from another thread."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import NamedTuple

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.kvm.requests import Request
from compute_agent.virt.kvm.statistics import read_statistics
from compute_agent.virt.kvm.vcpu_state import VcpuState


class Counters(NamedTuple):
    """Of exits from a guest since its vCPU was made."""

    exits: int
    answered: int
    """By the board, without Python."""
    passed: Mapping[int, int]
    """On to who runs the vCPU, by the reason that `Vcpu.run` gave; returns for a kick are here, though no exits."""


class Vcpu(VcpuState):
    """Belongs to the thread that runs it. `shared` is the ``struct kvm_run`` that the kernel and we write into.

    To stop it from another thread::

        stop = True; vcpu.kick()                    the thread that wants it stopped
        while vcpu.run() != KVM_EXIT_INTR: answer   the one that runs it, which looks at `stop` then
        vcpu.clear_kick(); vcpu.run()               when it may go on
    """

    def __init__(self, fd: int, shared_size: int, xsave_size: int, board: Board | None) -> None:
        super().__init__(fd, xsave_size)
        self._board = board  # C points to its content
        self._mapping = mmap.mmap(fd, shared_size)
        self.shared: CData = ffi.from_buffer("struct kvm_run *", self._mapping)
        self._content = ffi.new("struct vcpu *")
        lib.vcpu_init(self._content, fd, self.shared, board.content if board else ffi.NULL)

    def close(self) -> None:
        """While no thread runs it."""
        lib.vcpu_retire(self._content)
        ffi.release(self.shared)
        self._mapping.close()
        super().close()

    def run(self) -> int:
        """Let the guest run until it needs us; the reason, as in `compute_agent.virt.kvm.exits`.

        KVM_EXIT_INTR says that it was kicked, or that this thread got a signal; what it was answered before is in its
        registers then. Lets other threads of ours run meanwhile.

        :raises KvmError: it cannot run.
        """
        reason: int = lib.vcpu_run(self._content)
        if reason < 0:
            raise KvmError(Request.KVM_RUN.name, os.strerror(-reason))
        return reason

    def kick(self) -> None:
        """Let `run` return soon; and at once if it is called later, until `clear_kick`. From any thread, repeatedly."""
        lib.vcpu_kick(self._content)

    def clear_kick(self) -> None:
        """The next `run` runs again."""
        lib.vcpu_clear_kick(self._content)

    def complete_io(self) -> int:
        """Let what the last exit was answered arrive in the guest's registers, and the guest not run.

        KVM_EXIT_INTR: it has, and they can be saved. Another reason: the same instruction needs another answer; then
        again. It stays kicked.
        """
        self.kick()
        return self.run()

    def counters(self) -> Counters:
        """So far; from any thread."""
        counted = self._content.counters
        passed = {reason: number for reason, number in enumerate(counted.passed) if number}
        return Counters(counted.exits, counted.answered, passed)

    def statistics(self) -> dict[str, int]:
        """What the kernel counts about it, by the kernel's names."""
        return read_statistics(self)
