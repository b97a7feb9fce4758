"""Kernels, ramdisks and saved memory that a machine of our own is to begin with."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import msgspec

from compute_agent.errors import InsufficientResources, InvalidImage, RecordTooNew
from compute_agent.virt.vmm.boot.contents import examine_kernel, load_contents
from compute_agent.virt.vmm.boot.elf import ElfKernel
from compute_agent.virt.vmm.boot.linux import write_boot_params
from compute_agent.virt.vmm.boot.pvh import write_start_info
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.saved_state import MachineState, read_state, write_state
from tests.fuzz.generation import convert
from tests.fuzz.headers import KERNELS, MIB
from tests.fuzz.mutation import spoil_bytes
from tests.fuzz.target import Case, Check, Target

_SAVED = 0.2
"""Of all cases."""


@contextmanager
def _open() -> Iterator[Check]:
    with tempfile.TemporaryFile(dir="/dev/shm") as file, GuestRam(16 * MIB) as ram:

        def check(case: Case) -> None:
            if case.random.random() < _SAVED:
                return _feed_saved_state(case, ram)
            content = spoil_bytes(case.random, case.random.choice(KERNELS))
            case.show(content.rstrip(b"\0"))
            os.ftruncate(file.fileno(), 0)
            os.pwrite(file.fileno(), content, 0)
            return _feed_kernel(ram, file.fileno(), case.random)

        yield check


def _feed_kernel(ram: GuestRam, file: int, random: Random) -> None:
    """As `compute_agent.virt.vmm.boot.start` does."""
    try:
        kernel = examine_kernel(file)
        ramdisk = load_contents(ram, kernel, file if random.random() < 0.5 else None, "console=ttyS0")
    except (InvalidImage, InsufficientResources):
        return
    assert kernel.end <= ram.size
    if isinstance(kernel, ElfKernel) and kernel.has_pvh_entry:
        write_start_info(ram, ramdisk)
    else:
        write_boot_params(ram, kernel.header, ramdisk)


def _feed_saved_state(case: Case, ram: GuestRam) -> None:
    saved = _saved_state(case.random)
    content = spoil_bytes(case.random, saved) if case.random.random() < 0.9 else saved
    case.show(content)
    try:
        state = read_state(io.BytesIO(content), ram)
    except (InvalidImage, RecordTooNew):
        return
    assert state.memory == ram.size


def _saved_state(random: Random) -> bytes:
    """Of a machine with little memory, but one that says that it has as much as ours."""
    file = io.BytesIO()
    with GuestRam(2 * MIB) as small:
        small.write(4096 * random.randrange(256), random.randbytes(64))
        state = msgspec.structs.replace(convert(random, MachineState), memory=16 * MIB)
        write_state(file, state, small, lambda written: True)  # type: ignore[arg-type]
    return file.getvalue()


TARGET = Target(name="kernels", open=_open, weight=20)
