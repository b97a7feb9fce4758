"""What the demo shows. Each act says what it saw, and raises `SandboxError` where that is not what it promised."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from compute_agent.instance.view import OperationView
from demonstration.guest import Guest
from sandbox import audit
from sandbox.commands import SandboxError, run
from sandbox.narrator import Narrator
from sandbox.node import Node
from sandbox.switch import Switch

_COMPUTECTL = Path(sys.executable).with_name("computectl")
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
_SHUTDOWN_SECONDS = 60.0
"""A guest that was not off by then was forced, which the demo does not accept."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The guests, and all around them."""

    narrator: Narrator
    node: Node
    switch: Switch
    first: Guest
    second: Guest

    def play(self) -> None:
        """From boot to terminate."""
        self._boot()
        self._reach()
        self._inspect()
        self._stop_and_reboot()
        self._pause()
        self._terminate()

    def _boot(self) -> None:
        self.narrator.chapter("Two Debian guests are ordered over RabbitMQ")
        self._both(self._order)
        self.narrator.chapter("Their consoles are read until cloud-init is done")
        self._both(self._await_boot)

    def _order(self, guest: Guest) -> None:
        began = time.monotonic()
        accepted = self.node.client.build_and_run_instance(guest.order)
        self.narrator.say(f"{guest.name}: accepted in {(time.monotonic() - began) * 1000:.0f} ms, durably")
        operation = guest.finish(accepted)
        steps = ", ".join(step.name.replace("_", " ") for step in operation.steps)
        self.narrator.say(f"{guest.name}: running after {_duration(operation):.1f} s ({steps})")

    def _await_boot(self, guest: Guest) -> None:
        last = guest.await_cloud_init()
        self.narrator.say(f"{guest.name}: booted")
        self.narrator.quote(last)

    def _reach(self) -> None:
        self.narrator.chapter("They are reached over Open vSwitch")
        self._both(self._knock)
        replies = self.first.ssh(f"ping -c 3 -q {self.second.address}")
        self.narrator.say(f"{self.first.name} pings {self.second.name}:")
        self.narrator.quote("\n".join(replies.splitlines()[-2:]))

    def _knock(self, guest: Guest) -> None:
        _require(guest.answers_ping(), f"{guest.name} does not answer a ping")
        name = guest.ssh("hostname")
        _require(name == guest.name, f"{guest.name} calls itself {name!r}")
        self.narrator.say(f"{guest.name}: answers ping at {guest.address}, and ssh with its host name, {name}")

    def _inspect(self) -> None:
        self.narrator.chapter("The operator looks at them")
        self._computectl("list")
        self._computectl("diagnostics", self.first.name)

    def _stop_and_reboot(self) -> None:
        self.narrator.chapter(f"{self.first.name} is stopped and started, while {self.second.name} is rebooted")
        self._at_once(lambda: self._restart(self.first), lambda: self._reboot(self.second))
        self._computectl("list")

    def _restart(self, guest: Guest) -> None:
        before = guest.ssh(_BOOT_ID)
        operation = guest.finish(self.node.client.stop_instance(guest.uuid, timeout=_SHUTDOWN_SECONDS))
        seconds = _duration(operation)
        _require(seconds < _SHUTDOWN_SECONDS, f"{guest.name} did not heed the power button")
        self.narrator.say(f"{guest.name}: shut itself down in {seconds:.1f} s when its power button was pressed (ACPI)")
        _require(not guest.answers_ping(), f"{guest.name} is stopped but answers a ping")
        started = guest.finish(self.node.client.start_instance(guest.uuid))
        self.narrator.say(f"{guest.name}: started in {_duration(started):.1f} s")
        self._await_next_boot(guest, before)

    def _reboot(self, guest: Guest) -> None:
        before = guest.ssh(_BOOT_ID)
        operation = guest.finish(self.node.client.reboot_instance(guest.uuid, timeout=_SHUTDOWN_SECONDS))
        seconds = _duration(operation)
        _require(seconds < _SHUTDOWN_SECONDS, f"{guest.name} did not heed the power button")
        self.narrator.say(f"{guest.name}: soft reboot, shut down and running again after {seconds:.1f} s")
        self._await_next_boot(guest, before)

    def _await_next_boot(self, guest: Guest, before: str) -> None:
        guest.await_cloud_init(boots=2)
        _require(guest.ssh(_BOOT_ID) != before, f"{guest.name} has not booted anew")
        self.narrator.say(f"{guest.name}: up again, reached by ssh, with a new boot id")

    def _pause(self) -> None:
        self.narrator.chapter(f"{self.second.name} is paused and unpaused")
        self.second.finish(self.node.client.pause_instance(self.second.uuid))
        _require(not self.second.answers_ping(), f"{self.second.name} is paused but answers a ping")
        self.narrator.say(f"{self.second.name}: paused, silent")
        self.second.finish(self.node.client.unpause_instance(self.second.uuid))
        _require(self.second.answers_ping(), f"{self.second.name} is unpaused but does not answer a ping")
        self.narrator.say(f"{self.second.name}: unpaused, answers ping again")

    def _terminate(self) -> None:
        self.narrator.chapter("Both are terminated")
        self._both(self._terminate_one)
        left = audit.leftovers(self.node, self.switch)
        _require(not left, "left behind:\n" + "\n".join(left))
        self.narrator.say("nothing left: no QEMU, tap, switch port, disk, socket, file or open descriptor of a guest")

    def _terminate_one(self, guest: Guest) -> None:
        operation = guest.finish(self.node.client.terminate_instance(guest.uuid))
        self.narrator.say(f"{guest.name}: terminated in {_duration(operation):.1f} s")

    def _computectl(self, *arguments: str) -> None:
        self.narrator.say(f"$ computectl {' '.join(arguments)}")
        self.narrator.quote(run(_COMPUTECTL, "--config-file", self.node.config_file, *arguments))

    def _both(self, act: Callable[[Guest], None]) -> None:
        self._at_once(lambda: act(self.first), lambda: act(self.second))

    def _at_once(self, *acts: Callable[[], None]) -> None:
        with ThreadPoolExecutor(len(acts)) as pool:
            for future in [pool.submit(act) for act in acts]:
                future.result()


def _duration(operation: OperationView) -> float:
    return (operation.finished_at or 0.0) - operation.accepted_at


def _require(seen: bool, otherwise: str) -> None:
    if not seen:
        raise SandboxError(otherwise)
