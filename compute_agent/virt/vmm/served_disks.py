"""A machine's disks, each served by another process; and what the machine does when one of these goes.

Source: QEMU's qapi/block-core.json (BLOCK_IO_ERROR).
"""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.life import Life, Tell
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.run_state import RunState
from compute_agent.virt.vmm.server_watch import ServerWatch
from compute_agent.virt.vmm.slots import Slots
from compute_agent.virt.vmm.virtio.vhost_user_blk import VhostUserBlock

_GONE = {"operation": "write", "action": "stop", "nospace": False, "reason": "its server has gone"}


class ServedDisks:
    """A machine whose disk has no server stands still, in the state `RunState.IO_ERROR`."""

    def __init__(self, slots: Slots, lock: AbstractContextManager[bool], ram: GuestRam, life: Life, tell: Tell) -> None:
        """:param lock: the chipset's."""
        self._slots = slots
        self._lock = lock
        self._ram = ram
        self._life = life
        self._tell = tell
        self._watch = ServerWatch(self._server_has_gone)

    def add(self, name: str, slot: int, server: socket.socket) -> None:
        """A disk that a vhost-user-blk server at the other end of the socket serves; it owns the socket.

        :raises DeviceError: it is not fit for that.
        :raises MonitorError, InsufficientResources: as `Slots.add`.
        """
        self._slots.add(name, slot, VhostUserBlock(server, self._ram))
        self.look_again()

    def resize(self, name: str, size: int) -> None:
        """Its server serves `size` bytes now: let the guest know.

        :raises MonitorError: there is no such disk.
        """
        with self._lock:
            self._disk(name).resize(size)
            self._slots.function(name).agreement.change_configuration()

    def reconnect(self, name: str, server: socket.socket) -> None:
        """Another server serves the same disk from now on, unless the one that it has is there; it owns the socket.

        :raises DeviceError: it cannot go on there; the disk has no server.
        :raises MonitorError: there is no such disk; the socket is the caller's.
        """
        with self._life.still(), self._lock:
            disk, agreement = self._disk(name), self._slots.function(name).agreement
            if disk.is_served:
                server.close()
                return
            agreement.pause()
            disk.reconnect(server)
            if self._life.state is RunState.RUNNING:
                agreement.resume()
        self.look_again()

    def look_again(self) -> None:
        """There are other disks now, or other servers."""
        self._watch.watch({name: disk.fileno() for name, disk in self._slots.devices(VhostUserBlock)})

    def _disk(self, name: str) -> VhostUserBlock:
        device = self._slots.function(name).agreement.device
        if not isinstance(device, VhostUserBlock):
            raise MonitorError(f"Device '{name}' is not a disk")
        return device

    def _server_has_gone(self, name: str) -> None:
        with self._life.still():
            if any(disk.is_served for found, disk in self._slots.devices(VhostUserBlock) if found == name):
                return  # somebody has reconnected it meanwhile
            self._tell("BLOCK_IO_ERROR", {"device": name, "node-name": name, **_GONE})
            self._life.pause(RunState.IO_ERROR)
