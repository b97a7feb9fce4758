"""Runs a command in fresh network, process and mount namespaces; whatever happens, nothing stays behind.

Two processes are forked off: the first is PID 1 of the new namespaces, starts the command and reaps orphans. When PID 1
ends, the kernel kills all that is left and removes every tap and bridge; when the one outside dies, PID 1 dies with it.
Needs nothing but Python's standard library, because it runs before there is an environment.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile

OUTSIDE_NETWORK = "SANDBOX_OUTSIDE_NETWORK"
"""Environment variable: where the machine's own network namespace can be opened, for downloads."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_COMMAND_NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)


def main(command: list[str]) -> int:
    """The command's exit status; 128 + n where a signal ended it, as a shell has it."""
    if not command:
        print("usage: enter COMMAND [ARG...]", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("enter: needs root, to make namespaces, taps and bridges", file=sys.stderr)
        return 1
    if OUTSIDE_NETWORK in os.environ:
        os.execvp(command[0], command)
    scratch = tempfile.mkdtemp(prefix="sb-")
    try:
        return _run_in_namespaces(command, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_in_namespaces(command: list[str], scratch: str) -> int:
    door = os.open("/proc/self/ns/net", os.O_RDONLY)
    environment = {**os.environ, "TMPDIR": scratch, OUTSIDE_NETWORK: f"/proc/1/fd/{door}"}
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWNET), "unshare")
    first = os.fork()
    if first == 0:
        os._exit(_be_first_process(command, environment))
    _forward_signals(first)
    return _shell_status(os.waitpid(first, 0)[1])


def _be_first_process(command: list[str], environment: dict[str, str]) -> int:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    child = os.fork()
    if child == 0:
        _exec(command, environment)
    _forward_signals(child)
    return _reap_until(child)


def _forward_signals(pid: int) -> None:
    """Pass on what one process is told; a terminal tells Ctrl-C to the command itself, so it is not repeated."""
    for number in _FORWARDED:
        signal.signal(number, lambda received, _frame: os.kill(pid, received))
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda _received, _frame: None)


def _exec(command: list[str], environment: dict[str, str]) -> None:
    for number in (*_FORWARDED, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        print(f"enter: {command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(_COMMAND_NOT_FOUND)


def _reap_until(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            return _shell_status(status)


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
