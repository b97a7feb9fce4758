"""Which accelerator this host's guests get: KVM where it can truly run one, else TCG.

A /dev/kvm proves nothing: inside a virtual machine it may exist and refuse what an operating system
needs, or be thousands of times too slow. So QEMU is asked to run a small program with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compute_agent.virt.qemu.probe_program import EXIT_PORT, SUCCESS, probe_rom
from compute_agent.virt.settings import VirtSettings

PROBE_DEADLINE = 20.0
"""Seconds; where KVM works it takes a tenth of one, or some where the host itself is emulated and busy."""

_EXIT_STATUS = SUCCESS << 1 | 1
"""What isa-debug-exit makes of it."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The choice and why it was made."""

    name: Literal["kvm", "tcg"]
    reason: str


def choose_accelerator(settings: VirtSettings) -> Accelerator:
    """What is configured, or for ``auto`` what works. Starts a process: the caller keeps the answer."""
    if settings.accelerator != "auto":
        return Accelerator(settings.accelerator, "configured")
    kvm = Path("/dev/kvm")
    if not os.access(kvm, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"{kvm} may not be used" if kvm.exists() else f"there is no {kvm}")
    failure = probe(settings.qemu_binary, "kvm", "host")
    return Accelerator("tcg", f"KVM cannot run a guest here: {failure}") if failure else Accelerator("kvm", "it works")


def probe(binary: str, accelerator: str, cpu: str) -> str | None:
    """What is wrong with running a guest so; None if nothing is."""
    rom = os.memfd_create("probe-rom")
    try:
        os.write(rom, probe_rom())
        return _run(_probe_command(binary, accelerator, cpu, rom), rom)
    finally:
        os.close(rom)


def _probe_command(binary: str, accelerator: str, cpu: str, rom: int) -> list[str]:
    return [
        *(binary, "-no-user-config", "-nodefaults", "-display", "none", "-vga", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", accelerator, "-cpu", cpu, "-m", "16"),
        *("-bios", f"/proc/self/fd/{rom}", "-device", f"isa-debug-exit,iobase={EXIT_PORT},iosize=4"),
    ]


def _run(command: list[str], rom: int) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_DEADLINE, pass_fds=[rom]
        )
    except subprocess.TimeoutExpired:
        return f"a program of some milliseconds did not end in {PROBE_DEADLINE:g} s"
    if done.returncode == _EXIT_STATUS:
        return None
    said = done.stderr.decode(errors="replace").strip().partition("\n")[0] or "it said nothing"
    return f"QEMU {_ending(done.returncode)}: {said}"


def _ending(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
