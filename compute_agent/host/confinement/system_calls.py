"""System calls that a guest's process never needs, refused with EPERM whoever it has become.

QEMU's own ``-sandbox`` refuses more, but only once QEMU has read its arguments, and it leaves sockets alone. A guest's
process has inherited all that it may talk through, so it needs no new one. io_uring would be a way around the filter.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping

from compute_agent.host.confinement.kernel import filter_all_threads, prctl, renounce_new_privileges

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
RUNNING = {
    "read": 0,
    "write": 1,
    "close": 3,
    "fstat": 5,
    "poll": 7,
    "lseek": 8,
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "ioctl": 16,
    "pread64": 17,
    "pwrite64": 18,
    "readv": 19,
    "writev": 20,
    "select": 23,
    "sched_yield": 24,
    "mremap": 25,
    "madvise": 28,
    "dup": 32,
    "nanosleep": 35,
    "getpid": 39,
    "sendto": 44,
    "recvfrom": 45,
    "sendmsg": 46,
    "recvmsg": 47,
    "shutdown": 48,
    "getsockname": 51,
    "getsockopt": 55,
    "exit": 60,
    "fcntl": 72,
    "fsync": 74,
    "fdatasync": 75,
    "sigaltstack": 131,
    "gettid": 186,
    "futex": 202,
    "restart_syscall": 219,
    "clock_gettime": 228,
    "clock_nanosleep": 230,
    "exit_group": 231,
    "epoll_wait": 232,
    "epoll_ctl": 233,
    "tgkill": 234,
    "newfstatat": 262,
    "pselect6": 270,
    "ppoll": 271,
    "set_robust_list": 273,
    "epoll_pwait": 281,
    "accept4": 288,
    "eventfd2": 290,
    "pwritev": 296,
    "getrandom": 318,
    "preadv2": 327,
    "rseq": 334,
}
"""All that a process needs that has opened what it works with and started its threads, likewise."""
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
    header, _program = _header(refusing(refused))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))


def allow_only(allowed: Mapping[str, int]) -> None:
    """For all threads of this process, for good; what it was refused before stays so. Others get EPERM."""
    renounce_new_privileges()
    header, _program = _header(allowing(allowed))
    filter_all_threads(ctypes.addressof(header))


def refusing(refused: Mapping[str, int]) -> bytes:
    """All but these calls are allowed. Classic BPF, as seccomp(2) has it: 8 bytes an instruction."""
    return _filter(refused, listed=_EPERM, others=_ALLOW)


def allowing(allowed: Mapping[str, int]) -> bytes:
    """The same: all but these calls are refused."""
    return _filter(allowed, listed=_ALLOW, others=_EPERM)


def _header(program: bytes) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """A ``struct sock_fprog``, and what it points to."""
    instructions = ctypes.create_string_buffer(program)
    packed = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    return ctypes.create_string_buffer(packed), instructions


def _filter(calls: Mapping[str, int], *, listed: int, others: int) -> bytes:
    numbers = sorted(calls.values())
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _X86_64, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, if_false=1),
        _instruction(_RETURN, _EPERM),
        *(_instruction(_JUMP_EQUAL, call, if_true=len(numbers) - place) for place, call in enumerate(numbers)),
        _instruction(_RETURN, others),
        _instruction(_RETURN, listed),
    ]
    return b"".join(program)


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)
