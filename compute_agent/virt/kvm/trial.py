"""The process that runs the guest of `proof`: ``python -m compute_agent.virt.kvm.trial DEVICE SECONDS``.

It prints a JSON object: a `Proof`'s fields, or what went wrong as ``{"error": …}``.
"""

from __future__ import annotations

import json
import math
import signal
import struct
import sys
import time
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.exits import ExitReason, describe_exit
from compute_agent.virt.kvm.long_mode import enter_long_mode, identity_map
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vcpu import Vcpu

EXITS = 3000
TURNS = 100_000
_WARM_UP_TURNS = 1000

_MEMORY_SIZE = 2 << 20
_PAGE_TABLES, _CODE, _SCRATCH = 0x1000, 0x4000, 0x5000

_COUNTED, _EXCHANGED, _EXITED = 0x10, 0x11, 0x12
"""Ports that tell how far the guest is."""
_PROGRAM = """
    480fafc3        1: imulq %rbx, %rax           what a turn computes depends on all turns before
    4801d0             addq %rdx, %rax
    48ffc9             decq %rcx
    75f4               jnz 1b
    e610               outb %al, $0x10            counted
    66480f6ec0         movq %rax, %xmm0           what an emulator of instructions cannot do, and every
    0f2907             movaps %xmm0, (%rdi)       operating system does
    0f294710           movaps %xmm0, 16(%rdi)
    31d2               xorl %edx, %edx
    f0480fc74f10       lock cmpxchg16b 16(%rdi)   rax:0, which is there, for rbx:0
    e611               outb %al, $0x11            exchanged
    4889f1             movq %rsi, %rcx
    e612            1: outb %al, $0x12            exited, again and again
    48ffc9             decq %rcx
    75f9               jnz 1b
    f4                 hlt
"""

_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407
"""Knuth's, for a generator of random numbers modulo 2 ** 64."""


def computed(turns: int) -> int:
    """What the guest's loop makes of 1, without its turns: a geometric series."""
    series = (pow(_MULTIPLIER, turns, (_MULTIPLIER - 1) << 64) - 1) // (_MULTIPLIER - 1)
    return (pow(_MULTIPLIER, turns, 1 << 64) + _INCREMENT * series) % (1 << 64)


def try_guest(device_path: Path) -> dict[str, float]:
    """The fields of a `Proof`. :raises KvmError: as `prove` does."""
    with Device(device_path) as device, GuestMemory(_MEMORY_SIZE) as memory, device.create_vm() as vm:
        _load(memory)
        vm.add_memory(0, 0, memory)
        with vm.create_vcpu(0) as vcpu:
            vcpu.set_cpuid(device.supported_cpuid())
            special = vcpu.special_registers()
            enter_long_mode(special, _PAGE_TABLES)
            vcpu.set_special_registers(special)
            return _measure(vcpu, memory)


def _load(memory: GuestMemory) -> None:
    for address, contents in ((_PAGE_TABLES, identity_map(_MEMORY_SIZE, _PAGE_TABLES)), (_CODE, program())):
        memory.content[address : address + len(contents)] = contents


def program() -> bytes:
    """The guest's code."""
    return b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines())


def _measure(vcpu: Vcpu, memory: GuestMemory) -> dict[str, float]:
    _start(vcpu, _WARM_UP_TURNS)
    _run_to(vcpu, _COUNTED)
    _start(vcpu, TURNS)
    turn = _run_to(vcpu, _COUNTED) / TURNS
    _run_to(vcpu, _EXCHANGED)
    if struct.unpack_from("<4Q", memory.content, _SCRATCH) != (computed(TURNS), 0, _MULTIPLIER, 0):
        raise KvmError("the guest computed something wrong")
    exits = sorted(_run_to(vcpu, _EXITED) for _ in range(EXITS))
    if vcpu.run() != ExitReason.KVM_EXIT_HLT:
        raise KvmError(describe_exit(vcpu.shared))
    return {"exit_nanoseconds": exits[EXITS // 2], "exits": EXITS, "turn_nanoseconds": turn}


def _start(vcpu: Vcpu, turns: int) -> None:
    """Put the guest at the beginning of its program."""
    registers = {"rax": 1, "rbx": _MULTIPLIER, "rdx": _INCREMENT, "rcx": turns, "rsi": EXITS, "rdi": _SCRATCH}
    vcpu.set_registers(ffi.new("struct kvm_regs *", {**registers, "rip": _CODE, "rflags": 2}))


def _run_to(vcpu: Vcpu, port: int) -> int:
    """Nanoseconds until the guest writes to the port. :raises KvmError: it does something else."""
    begun = time.perf_counter_ns()
    reason = vcpu.run()
    took = time.perf_counter_ns() - begun
    if reason != ExitReason.KVM_EXIT_IO or vcpu.shared.io.port != port:
        raise KvmError(describe_exit(vcpu.shared))
    return took


def main(device: str, seconds: str) -> None:
    """Try it. The alarm ends us where nobody is left to do so."""
    signal.alarm(math.ceil(float(seconds)))
    try:
        print(json.dumps(try_guest(Path(device))))
    except KvmError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
