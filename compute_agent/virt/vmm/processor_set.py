"""A machine's processors, their interrupt controllers and clock, as KVM has them: made, reset, and told apart.

Source: Linux's Documentation/virt/kvm/api.rst, for what is restored after what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.extensions import TSC_DEADLINE_TIMER
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.kvm.interrupts import Chip
from compute_agent.virt.kvm.vcpu import Vcpu
from compute_agent.virt.kvm.vcpu_state import Part
from compute_agent.virt.kvm.vm import Vm
from compute_agent.virt.vmm.cpuid import ProcessorIdentity


class ProcessorState(msgspec.Struct, frozen=True):
    """The kernel's structures by the names of `Part`; model-specific registers by their numbers."""

    parts: Mapping[str, bytes]
    model_specific: Mapping[int, int]


class ProcessorSetState(msgspec.Struct, frozen=True):
    """What survives a suspension; `clock` in nanoseconds."""

    processors: Sequence[ProcessorState]
    chips: Sequence[bytes]
    timer: bytes
    clock: int


class ProcessorSet:
    """All is done while the processors do not run."""

    def __init__(self, device: Device, vm: Vm, count: int, board: Board) -> None:
        self._vm = vm
        self._msrs = device.msr_indices()
        self.vcpus: Sequence[Vcpu] = [vm.create_vcpu(number, board) for number in range(count)]
        has_deadline_timer = bool(device.check_extension(TSC_DEADLINE_TIMER))
        table = device.supported_cpuid()
        for number, vcpu in enumerate(self.vcpus):
            ProcessorIdentity(number, count, has_deadline_timer=has_deadline_timer).apply(table)
            vcpu.set_cpuid(table)
        self._clock = vm.clock()
        self._is_ticking = False
        self._power_on = self.state()

    @property
    def shared(self) -> Sequence[CData]:
        """Each one's ``struct kvm_run *``."""
        return [vcpu.shared for vcpu in self.vcpus]

    def stop_clock(self) -> None:
        """The guest's time stands still until `start_clock`. May be repeated."""
        if self._is_ticking:
            self._clock = self._vm.clock()
            self._is_ticking = False

    def start_clock(self) -> None:
        """Before they run."""
        self._vm.set_clock(self._clock)
        self._is_ticking = True
        for vcpu in self.vcpus:
            vcpu.excuse_pause()

    def reset(self) -> None:
        """As after power-on; time goes on."""
        self.restore(msgspec.structs.replace(self._power_on, clock=self._clock))

    def state(self) -> ProcessorSetState:
        """What they are in the middle of."""
        return ProcessorSetState(
            processors=[self._state_of(vcpu) for vcpu in self.vcpus],
            chips=[self._vm.chip_state(chip) for chip in Chip],
            timer=self._vm.timer_state(),
            clock=self._clock,
        )

    def restore(self, state: ProcessorSetState) -> None:
        """Of as many."""
        for chip in state.chips:
            self._vm.set_chip_state(chip)
        self._vm.set_timer_state(state.timer)
        for vcpu, processor in zip(self.vcpus, state.processors, strict=True):
            _restore(vcpu, processor)
        self._clock = state.clock

    def statistics(self) -> Mapping[str, object]:
        """Exits by reason, of all processors; and what the kernel counts of the machine."""
        counters = [vcpu.counters() for vcpu in self.vcpus]
        passed: dict[str, int] = {}
        for reason, number in (item for one in counters for item in one.passed.items()):
            name = ExitReason(reason).name
            passed[name] = passed.get(name, 0) + number
        return {
            "exits": sum(one.exits for one in counters),
            "answered": sum(one.answered for one in counters),
            "passed": passed,
            "kvm": self._vm.statistics(),
        }

    def _state_of(self, vcpu: Vcpu) -> ProcessorState:
        parts = {part.name: vcpu.part(part) for part in Part}
        return ProcessorState(parts, vcpu.msrs(self._msrs))


def _restore(vcpu: Vcpu, state: ProcessorState) -> None:
    for part in Part:
        vcpu.set_part(part, state.parts[part.name])
    vcpu.set_msrs(state.model_specific)
