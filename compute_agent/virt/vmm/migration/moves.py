"""A machine's ways out of its process and into it: what its monitor's commands about migrations do."""

from __future__ import annotations

import os
import socket
import stat
import time
from contextlib import AbstractContextManager
from typing import Protocol

from compute_agent.errors import DeviceError, MonitorError
from compute_agent.virt.kvm.pages import PageSet
from compute_agent.virt.vmm.carrier import Carrier, Status
from compute_agent.virt.vmm.life import Life, Tell
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.incoming import Incoming
from compute_agent.virt.vmm.migration.outgoing import Outgoing
from compute_agent.virt.vmm.migration.parameters import Wishes
from compute_agent.virt.vmm.migration.tracking import Tracking
from compute_agent.virt.vmm.process_log import say
from compute_agent.virt.vmm.run_state import RunState
from compute_agent.virt.vmm.saved_state import MachineState, decode_state, encode_state, write_state
from compute_agent.virt.vmm.saver import Saving
from compute_agent.virt.vmm.slots import Slots
from compute_agent.virt.vmm.virtio.vhost_net import VhostNet


class Movable(Protocol):
    """A machine."""

    ram: GuestRam
    slots: Slots
    life: Life

    def state(self) -> MachineState:
        """All but its memory, while it stands still."""

    def become(self, state: MachineState) -> None:
        """What was that, and is paused; the memory is there already.

        :raises MachineError, KvmError: it cannot be.
        """


class Announcement(Protocol):
    """How often, and how fast: milliseconds."""

    initial: int
    max: int
    rounds: int
    step: int


class Moves:
    """Safe to be used from several threads. What they are given they own, also where they refuse it."""

    def __init__(self, machine: Movable, tracking: Tracking, tell: Tell) -> None:
        self.ram = machine.ram
        self.wishes = Wishes()
        self.carrier = Carrier(self._has_ended)
        self._machine = machine
        self._life = machine.life
        self._tracking = tracking
        self._tell = tell
        self._outgoing: Outgoing | None = None
        self._has_begun_to_come = False

    def send(self, fd: int) -> None:
        """Begin to write the stopped machine to a file, or to send it to another host's process, running or not.

        :raises MonitorError: that cannot be now.
        """
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            self._send_to_process(socket.socket(fileno=fd))
        else:
            self._save(fd)

    def take(self, connection: socket.socket) -> None:
        """Begin to take what another host's process sends. If that fails the machine comes to its end.

        :raises MonitorError: it does not wait for any, or one has begun to come.
        """
        if self._life.state is not RunState.INMIGRATE or self._has_begun_to_come:
            connection.close()
            raise MonitorError("the machine does not wait for another host's, or not any more")
        self._has_begun_to_come = True
        self.carrier.begin(Incoming(connection, self.ram, self._become))

    def go_on(self) -> None:
        """The machine stands still for its migration, and what had to be done meanwhile is done.

        :raises MonitorError: it does not.
        """
        if self._outgoing is None:
            raise MonitorError("there is no migration")
        self._outgoing.go_on()

    def announce(self, how: Announcement) -> None:
        """Let the network learn, several times, where the addresses of its NICs are."""
        self.carrier.afterwards(lambda: self._announce(how))

    def still(self) -> AbstractContextManager[bool]:
        return self._life.still()

    def halt(self) -> None:
        self._life.pause()
        if self._life.state not in (RunState.PAUSED, RunState.POSTMIGRATE):
            raise MonitorError(f"only a running or paused machine can be sent; this one is {self._life.state}")

    def track(self, on: bool) -> None:
        if on:
            self._tracking.begin()
        else:
            self._tracking.end()

    def touched(self) -> PageSet:
        return self._tracking.touched()

    def written(self, pages: PageSet | None = None) -> PageSet:
        return self._tracking.take(pages)

    def state(self) -> bytes:
        return encode_state(self._machine.state())

    def has_gone(self) -> None:
        self._life.become(RunState.POSTMIGRATE)

    def _save(self, fd: int) -> None:
        with self._life.still():
            if self._life.state not in (RunState.PAUSED, RunState.POSTMIGRATE):
                os.close(fd)
                raise MonitorError(f"only a paused machine can be saved; this one is {self._life.state}")
            try:
                self.carrier.require_idle()
            except MonitorError:
                os.close(fd)
                raise
            write = lambda file, go_on: write_state(file, self._machine.state(), self.ram, go_on)  # noqa: E731
            self.carrier.begin(Saving(fd, self.ram.size, write, self.has_gone))

    def _send_to_process(self, connection: socket.socket) -> None:
        outgoing = Outgoing(self, connection, self.wishes, lambda status: self._tell("MIGRATION", {"status": status}))
        try:
            if self._life.state not in (RunState.RUNNING, RunState.PAUSED, RunState.POSTMIGRATE):
                raise MonitorError(f"only a running or paused machine can be sent; this one is {self._life.state}")
            self.carrier.begin(outgoing)
        except MonitorError:
            connection.close()
            raise
        self._outgoing = outgoing

    def _become(self, content: memoryview) -> None:
        self._machine.become(decode_state(content, self.ram))

    def _has_ended(self, status: Status) -> None:
        self._tell("MIGRATION", {"status": status})
        if status != "completed" and self._life.state is RunState.INMIGRATE:
            say("Only a part of the machine has come in")
            self._life.end()

    def _announce(self, how: Announcement) -> None:
        for round_ in range(how.rounds):
            for name, nic in self._machine.slots.devices(VhostNet):
                try:
                    nic.announce()
                except DeviceError as error:
                    say(f"{name} is not announced: {error}")
            time.sleep(min(how.initial + round_ * how.step, how.max) / 1000)
