"""System calls that a guest's process never needs, refused with EPERM whoever it has become.

QEMU's own ``-sandbox`` refuses more, but only once QEMU has read its arguments, and it leaves sockets alone. A guest's
process has inherited all that it may talk through, so it needs no new one. io_uring would be a way around the filter.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping

from compute_agent.host.confinement.kernel import prctl

REFUSED = {
    "socket": 41,
    "ptrace": 101,
    "pivot_root": 155,
    "adjtimex": 159,
    "chroot": 161,
    "acct": 163,
    "settimeofday": 164,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "init_module": 175,
    "delete_module": 176,
    "clock_settime": 227,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "open_by_handle_at": 304,
    "clock_adjtime": 305,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "io_uring_setup": 425,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsmount": 432,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
"""By their numbers on x86-64."""
REFUSED_TO_SERVERS = {name: number for name, number in REFUSED.items() if name != "socket"}

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050001
_NUMBER, _ARCHITECTURE = 0, 4
"""Offsets in seccomp_data."""
_X86_64 = 0xC000003E
_X32 = 0x40000000
"""Set in the numbers of the x32 ABI: other names for the same calls."""


def refuse_system_calls(refused: Mapping[str, int]) -> None:
    """For this process and all that it becomes. Needs no privilege, but that new ones have been renounced."""
    program = filter_program(refused)
    instructions = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions)))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))


def filter_program(refused: Mapping[str, int]) -> bytes:
    """Classic BPF, as seccomp(2) has it: 8 bytes an instruction."""
    calls = sorted(refused.values())
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _X86_64, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, if_true=len(calls) + 1),
        *(_instruction(_JUMP_EQUAL, call, if_true=len(calls) - place) for place, call in enumerate(calls)),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _EPERM),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, if_true: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, 0, operand)
