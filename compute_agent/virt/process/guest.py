"""One guest: its process, monitor and console, and what the agent may do with all of them alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from compute_agent.errors import DeadlineExceeded, GuestGone, MonitorError
from compute_agent.host.process_log import last_lines
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Execute, Monitor, MonitorLoop
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import GuestExit, OnDiskFailure, OnGuestExit, StartRequest
from compute_agent.virt.migration import IncomingMigration
from compute_agent.virt.process.console import Console
from compute_agent.virt.process.disk_failures import DiskFailures
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.process.saving import save_memory
from compute_agent.virt.process.unplugging import Unplugging, has_device
from compute_agent.virt.settings import VirtSettings

_POWER_STATES = {
    "running": PowerState.RUNNING,
    "shutdown": PowerState.SHUTDOWN,
    "internal-error": PowerState.CRASHED,
    "guest-panicked": PowerState.CRASHED,
}
"""Those of QEMU's run states that do not mean "paused"."""

_NEEDS_RESET = ("shutdown", "internal-error", "guest-panicked")

_LONGEST_SHOWN = 80
_LOOK_AGAIN = 0.005
"""Seconds between two looks at something that is about to happen."""


@dataclass(frozen=True, slots=True)
class Common:
    """What all guests share."""

    settings: VirtSettings
    loop: MonitorLoop
    announce: OnGuestExit
    announce_failure: OnDiskFailure


class ProcessGuest:
    """The part of `compute_agent.virt.contract.Guest` that does not touch devices. Safe for several threads."""

    incoming: IncomingMigration

    def __init__(
        self,
        instance_uuid: str,
        process: Process,
        console: Console | None,
        common: Common,
        disk_of: Callable[[str], str] = str,
    ) -> None:
        """`disk_of` tells the disk by the name of the node that failed."""
        self.instance_uuid = instance_uuid
        self.process = process
        self.console = console
        self._settings = common.settings
        self._announce = common.announce
        self._failures = DiskFailures(instance_uuid, common.announce_failure, disk_of)
        self._paths = GuestPaths.of(common.settings, instance_uuid)
        self._monitor = Monitor(common.loop, self._paths.monitor_socket, process, self._on_event)
        self._execute: Execute = partial(self._monitor.execute, deadline=common.settings.command_timeout)
        self._unplugging = Unplugging(self._execute, common.settings.detach_timeout)
        self._off = threading.Event()
        self._cleared_away = threading.Event()
        self._may_end = True

    @property
    def pid(self) -> int:
        return self.process.pid

    def status(self, seconds: float | None = None) -> PowerState:
        if self.process.has_ended():
            return PowerState.SHUTDOWN
        if self._monitor.is_silent:
            return PowerState.UNRESPONSIVE
        try:
            return _POWER_STATES.get(self._run_state(seconds), PowerState.PAUSED)
        except GuestGone:
            return PowerState.SHUTDOWN
        except (DeadlineExceeded, MonitorError):
            return PowerState.UNRESPONSIVE

    def pause(self) -> None:
        self._execute("stop")

    def resume(self) -> None:
        self._execute("cont")

    def press_power_button(self) -> None:
        self._execute("system_powerdown")

    def wait_for_shutdown(self, seconds: float) -> bool:
        # The look at the status also connects a guest that has only just been adopted: its event will be heard.
        return self.status() is PowerState.SHUTDOWN or self._off.wait(seconds)

    def reset(self) -> None:
        self._off.clear()
        self._execute("system_reset")
        self._wait_while(_NEEDS_RESET, self._settings.command_timeout)
        self._execute("cont")

    def save(self, path: Path) -> None:
        save_memory(self._execute, path, self._settings.save_timeout)

    def kill(self) -> None:
        self._may_end = True
        self._prepare_end()
        self.process.kill()
        if not self._cleared_away.wait(self._settings.kill_timeout):
            raise DeadlineExceeded(f"{self.process} has not died of SIGKILL")

    def has_device(self, name: str) -> bool:
        return has_device(self._execute, name)

    def wait_until_made(self) -> None:
        """Wait until the process has made the machine and opened all it needs; the vCPUs do not run yet.

        :raises GuestGone: it ended instead.
        """
        self._monitor.execute("query-status", deadline=self._settings.start_timeout)
        if self.console is not None:
            self.console.let_write()

    def begin(self, request: StartRequest) -> None:
        """Let the vCPUs of a new machine run, or see to it that it gets its memory. May be repeated."""
        if request.is_incoming:
            self.incoming.prepare()
        elif request.saved_state is not None:
            self._wait_while(("inmigrate",), self._settings.save_timeout)
        else:
            self._monitor.execute("cont", deadline=self._settings.start_timeout)

    def watch_over(self) -> None:
        """From now on its end is news, and its events are heard."""
        self._may_end = False
        self._monitor.connect_soon()

    def ended(self) -> None:
        """The process is gone and the hypervisor has cleared away what belonged to it."""
        self._unplugging.ended()
        is_news = not (self._may_end or self._off.is_set())
        self._off.set()
        self._monitor.close()
        self._cleared_away.set()
        if is_news:
            how = f"{self.process} {self.process.exit_reason()}"
            self._tell("crashed", f"{how}: {last_lines(self._paths.process_log)}")

    def let_go(self) -> None:
        """Hang up; the guest goes on."""
        self._monitor.close()

    def _prepare_end(self) -> None:
        """What is to be done before the process is killed."""

    def _on_event(self, event: Mapping[str, Any]) -> None:
        self._failures.heard(event)
        self._unplugging.heard(event)
        if event["event"] == "SHUTDOWN" and event["data"]["guest"]:
            self._powered_off(event["data"]["reason"])

    def _run_state(self, seconds: float | None = None) -> str:
        deadline = self._settings.command_timeout if seconds is None else seconds
        answer = self._monitor.execute("query-status", deadline=deadline)
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            raise MonitorError(f"query-status: no monitor answers so: {str(answer)[:_LONGEST_SHOWN]}")
        return str(answer["status"])

    def _wait_while(self, run_states: Sequence[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while (state := self._run_state()) in run_states:
            if time.monotonic() > end:
                raise DeadlineExceeded(f"the guest is still {state} after {seconds:g} s")
            time.sleep(_LOOK_AGAIN)

    def _powered_off(self, reason: str) -> None:
        # A vCPU that asks again before it has been stopped makes a second event: it is no news.
        if not self._off.is_set():
            self._off.set()
            self._tell("powered_off", f"the guest powered itself off ({reason})")

    def _tell(self, reason: Literal["powered_off", "crashed"], detail: str) -> None:
        self._announce(GuestExit(instance_uuid=self.instance_uuid, reason=reason, detail=detail))
