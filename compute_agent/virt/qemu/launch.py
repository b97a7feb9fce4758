"""Starting a guest's QEMU."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from compute_agent.errors import GuestStartFailed
from compute_agent.host.processes import Process
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.command_line import GuestDescriptors, command_line
from compute_agent.virt.qemu.console_ring import ConsoleRing
from compute_agent.virt.qemu.paths import GuestPaths
from compute_agent.virt.qemu.qemu_log import open_log


def launch(binary: str, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Process:
    """A process of its own for the guest; its machine is being made, and its vCPUs do not run yet.

    The monitor's socket listens before QEMU runs, so one can connect at once and need not try again.

    :raises GuestStartFailed: the program or a file cannot be opened; nothing runs.
    """
    try:
        with ExitStack() as opened:
            listener = opened.enter_context(_listen(paths.monitor_socket))
            log = _until_closed(opened, open_log(paths.qemu_log))
            fds = GuestDescriptors(
                monitor=listener.fileno(), console=ring.shared, saved_state=_open_saved_state(opened, request)
            )
            arguments = command_line(binary, request, paths, fds)
            return Process.spawn(arguments, pass_fds=_inherited(fds, request), log_fd=log)
    except OSError as error:
        raise GuestStartFailed(f"QEMU cannot be started: {error}") from error


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(bytes(path))
    listener.listen(1)
    return listener


def _open_saved_state(opened: ExitStack, request: StartRequest) -> int | None:
    if request.saved_state is None:
        return None
    return _until_closed(opened, os.open(request.saved_state, os.O_RDONLY | os.O_CLOEXEC))


def _until_closed(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _inherited(fds: GuestDescriptors, request: StartRequest) -> list[int]:
    nics = [fd for nic in request.nics for fd in (*nic.tap_fds, *nic.vhost_fds)]
    own = [fds.monitor, fds.console] + ([] if fds.saved_state is None else [fds.saved_state])
    return own + nics
