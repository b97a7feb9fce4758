"""A guest's file systems, frozen for a moment; `compute_agent.virt.qemu.freeze_keeper` sees to it that they thaw."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from compute_agent.errors import MonitorError
from compute_agent.virt.qemu.freeze_keeper import FROZEN, THAWED

LOG = logging.getLogger(__name__)

_MODULE = "compute_agent.virt.qemu.freeze_keeper"
_STARTS_WITHIN = 10.0
_THAWS_WITHIN = 10.0
"""Seconds that the agent waits for the keeper; the keeper itself goes on."""
_LONGEST_MESSAGE = 4096


class Freeze:
    """Within the ``with`` block the guest's file systems are consistent on its disks, if its guest agent sees to it."""

    def __init__(self, channel: Path, seconds: float) -> None:
        """`channel` is the guest agent's socket; after `seconds` the guest is thawed, whatever happens."""
        self._channel = channel
        self._seconds = seconds
        self._control: socket.socket | None = None
        self.has_held = False
        """After the block: they were frozen all the time."""

    def __enter__(self) -> Freeze:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, socket.socket(socket.AF_UNIX) as channel:
                channel.connect(bytes(self._channel))
                self._keeper = self._start([channel.fileno(), theirs.fileno()])
            self._require(ours, FROZEN, _STARTS_WITHIN + self._seconds)
        except (OSError, MonitorError) as error:
            LOG.warning("The guest's file systems could not be frozen: %s", error)
            ours.close()
        else:
            self._control = ours
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._control is None:
            return
        with self._control as control:
            try:
                control.send(b"thaw")
                self._require(control, THAWED, _THAWS_WITHIN)
                self._keeper.wait(_THAWS_WITHIN)
            except (OSError, MonitorError, subprocess.TimeoutExpired) as problem:
                LOG.warning("The guest's file systems did not stay frozen, or are still to be thawed: %s", problem)
            else:
                self.has_held = True

    def _start(self, numbers: list[int]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", _MODULE, *map(str, numbers), f"{self._seconds:g}"],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )

    def _require(self, control: socket.socket, what: bytes, seconds: float) -> None:
        """:raises OSError, MonitorError: the keeper says something else, or nothing in time."""
        control.settimeout(seconds)
        said = control.recv(_LONGEST_MESSAGE)
        if said != what:
            raise MonitorError(said.decode(errors="replace") or "the freeze keeper has ended")
