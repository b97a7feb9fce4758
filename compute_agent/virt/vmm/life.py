"""What a machine does from moment to moment, and what it tells of that.

Source: QEMU's docs/interop/qmp-spec.txt and qapi/run-state.json, for events and what may follow what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Protocol

from compute_agent.errors import DeadlineExceeded, MachineError, MonitorError
from compute_agent.virt.vmm.process_log import say
from compute_agent.virt.vmm.run_state import NEEDS_RESET, RunState

Tell = Callable[[str, Mapping[str, object]], None]
"""An event's name and data, for whoever listens at the monitor."""


class Hardware(Protocol):
    """All that runs and stops together. Each verb may be repeated."""

    def hold(self) -> None:
        """Let the processors stop soon; from any thread."""

    def stop(self) -> None:
        """Processors and devices: nothing changes the guest's memory when this returns.

        :raises MachineError: it is so, but some device cannot go on.
        """

    def go(self) -> None:
        """Devices and processors."""

    def reset(self) -> None:
        """As after power-on; it is stopped."""


class Life:
    """Safe to be used from several threads, but for those of processors: these `wish`."""

    def __init__(self, hardware: Hardware, tell: Tell) -> None:
        self.state = RunState.PRELAUNCH
        self._hardware = hardware
        self._tell = tell
        self._lock = threading.RLock()
        self._resets = 0
        self._wishes: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def resume(self) -> None:
        """Let it run. Nothing happens where it does.

        :raises MonitorError: there is nothing to go on from.
        """
        with self._lock:
            if self.state in NEEDS_RESET:
                raise MonitorError("Resetting the Virtual Machine is required")
            if self.state is not RunState.RUNNING:
                self._hardware.go()
                self.state = RunState.RUNNING
                self._tell("RESUME", {})

    def pause(self, state: RunState = RunState.PAUSED) -> None:
        """Let it stop, in `state`. A machine that has stopped keeps the state that it stopped in."""
        with self._lock:
            if self.state is RunState.RUNNING:
                self.state = self._stop(state)
                self._tell("STOP", {})

    def reset(self, *, by_guest: bool = False) -> None:
        """Pull the reset line; what ran goes on running, what could not go on now can."""
        with self._lock:
            was_running = self.state is RunState.RUNNING
            self._stop(RunState.PAUSED)
            self._resets += 1
            self._hardware.reset()
            reason = "guest-reset" if by_guest else "host-qmp-system-reset"
            self._tell("RESET", {"guest": by_guest, "reason": reason})
            if was_running:
                self._hardware.go()
            elif self.state in NEEDS_RESET:
                self.state = RunState.PAUSED

    def become(self, state: RunState) -> None:
        """A machine that does not run is in another state now."""
        with self._lock:
            if self.state is not RunState.RUNNING:
                self.state = state

    def still(self) -> AbstractContextManager[bool]:
        """Hold this, and the state does not change meanwhile."""
        return self._lock

    def wish_for_reset(self) -> None:
        """A processor's thread may call this; the processors run no further."""
        self._wish(lambda: self.reset(by_guest=True))

    def wish_for_power_off(self) -> None:
        """The same."""
        self._wish(self._power_off)

    def wish_for_end(self, reason: str) -> None:
        """The same, of a processor that has failed."""
        self._wish(lambda: self._fail(reason))

    def serve(self) -> None:
        """Fulfil wishes until `end`."""
        while (wish := self._wishes.get()) is not None:
            try:
                wish()
            except MonitorError as error:
                say(f"What the guest has asked for is not done: {error}")

    def end(self) -> None:
        """Let `serve` return."""
        self._wishes.put(None)

    def _wish(self, what: Callable[[], None]) -> None:
        self._hardware.hold()
        resets = self._resets
        self._wishes.put(lambda: self._fulfil(what, resets))

    def _fulfil(self, what: Callable[[], None], resets: int) -> None:
        """What was wished for before a reset is out of date."""
        with self._lock:
            if self._resets == resets:
                what()

    def _power_off(self) -> None:
        self.state = self._stop(RunState.SHUTDOWN)
        self._tell("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
        self._tell("STOP", {})

    def _fail(self, reason: str) -> None:
        say(f"The guest is stopped: {reason}")
        self.state = self._stop(RunState.INTERNAL_ERROR)
        self._tell("STOP", {})

    def _stop(self, state: RunState) -> RunState:
        """The state that it is in then."""
        try:
            self._hardware.stop()
        except (MachineError, DeadlineExceeded) as error:
            say(f"The guest cannot go on: {error}")
            return RunState.INTERNAL_ERROR
        return state
