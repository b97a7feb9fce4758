"""Waiting for what a guest does, with a deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.qemu.guest import QemuGuest

DEADLINE = 20.0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def until_said(hypervisor: QemuHypervisor, uuid: str, text: bytes) -> None:
    until(lambda: text in hypervisor.console_output(uuid, 4096))


def start_up(hypervisor: QemuHypervisor, request: StartRequest) -> QemuGuest:
    """A guest that is up: its driver has begun to use its disks.

    While that begins QEMU 7.2 must not be made to mirror them: a mirror that ends just then makes it abort
    (``blk_get_aio_context: Assertion `ctx == blk->ctx' failed``).
    """
    guest = hypervisor.start(request)
    until_said(hypervisor, request.instance.uuid, b">")
    return guest


def say(hypervisor: QemuHypervisor, uuid: str, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(hypervisor.console_socket(uuid)))
        console.sendall(text)
        # Stay until the echo is back: QEMU drops what a closed connection has not yet delivered.
        console.settimeout(DEADLINE)
        console.recv(1)
