"""The process of a machine that has no machine in it: it answers its monitor, and has a console of its own.

``python -c`` of `FORK_SERVER` is the fork server of machines, with this in place of `compute_agent.virt.vmm.process`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from types import ModuleType

import msgspec

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.monitor.command import Arguments, Command, Files, Nothing
from compute_agent.virt.vmm.monitor.server import MonitorServer
from compute_agent.virt.vmm.plan import Plan, decode_plan

FORK_SERVER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.functional import machine_stand_in
machine_stand_in.take_the_place()
from compute_agent.host.confinement.server import serve
from compute_agent.virt.vmm.fork_server import become_machine
serve(sys.argv[1:], become_machine)
"""
BROKEN = 666
"""vCPUs of a machine whose process fails."""


class _Device(Arguments, frozen=True):
    driver: str
    id: str
    addr: int
    fd: str


class _Named(Arguments, frozen=True):
    id: str


class _Listed(Arguments, frozen=True):
    path: str


class _Resize(Arguments, frozen=True):
    device: str
    size: int


class _Reconnect(Arguments, frozen=True):
    device: str
    fd: str


class StandIn:
    """Of a machine."""

    def __init__(self, plan: Plan, modules: frozenset[str]) -> None:
        self._plan = plan
        self._modules = modules
        self._disks = {disk.name: 1 << 20 for disk in plan.disks}
        self._status = "prelaunch"
        self.has_ended = threading.Event()
        self._monitor = MonitorServer(socket.socket(fileno=plan.monitor), self._commands(), {"vmm": "stand-in"})

    def _commands(self) -> dict[str, Command]:  # type: ignore[type-arg]
        return {
            "query-status": Command(Nothing, lambda *_: {"status": self._status, "running": self._status == "running"}),
            "cont": Command(Nothing, lambda *_: self._go_on()),
            "stop": Command(Nothing, lambda *_: self._become("paused")),
            "system_powerdown": Command(Nothing, lambda *_: self._power_off()),
            "query-cpus-fast": Command(Nothing, lambda *_: [{"cpu-index": 0, "thread-id": threading.get_native_id()}]),
            "query-stats": Command(Nothing, lambda *_: self._look_around()),
            "query-block": Command(
                Nothing, lambda *_: [{"device": name, "size": size} for name, size in self._disks.items()]
            ),
            "qom-list": Command(_Listed, lambda *_: [{"name": name, "type": "child<disk>"} for name in self._disks]),
            "device_add": Command(_Device, self._add),
            "device_del": Command(_Named, self._remove),
            "block_resize": Command(_Resize, lambda asked, _: self._disks.update({asked.device: asked.size})),
            "x-reconnect-disk": Command(_Reconnect, lambda asked, files: os.close(files.take(asked.fd))),
            "quit": Command(Nothing, lambda *_: self.has_ended.set()),
        }

    def _become(self, status: str) -> None:
        self._status = status

    def _go_on(self) -> None:
        if self._status != "running":
            os.write(self._plan.console_log, b"it runs\n")
        self._status = "running"

    def _power_off(self) -> None:
        self._status = "shutdown"
        self._monitor.tell("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})

    def _look_around(self) -> dict[str, object]:
        """What the test wants to know of the process."""
        return {
            "root": sorted(entry.name for entry in Path("/").iterdir()),
            "uid": os.getuid(),
            "pid": os.getpid(),
            "imported": sorted(set(sys.modules) - self._modules),
        }

    def _add(self, device: _Device, files: Files) -> None:
        if device.id in self._disks:
            raise MonitorError(f"Duplicate device ID '{device.id}'")
        os.close(files.take(device.fd))
        self._disks[device.id] = 1 << 20

    def _remove(self, named: _Named, _: Files) -> None:
        if self._disks.pop(named.id, None) is None:
            raise MonitorError(f"Device '{named.id}' not found")
        self._monitor.tell("DEVICE_DELETED", {"device": named.id})


def run(argument: str) -> int:
    """As `compute_agent.virt.vmm.process.run`."""
    modules = frozenset(sys.modules)
    plan = decode_plan(argument)
    if plan.vcpus == BROKEN:
        raise MonitorError("this machine is broken")
    StandIn(plan, modules).has_ended.wait()
    return 0


def take_the_place() -> None:
    """Be the module that machines' processes are, for all who import it from here on."""
    module = ModuleType("compute_agent.virt.vmm.process")
    module.run = run  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    msgspec.json.Decoder(Plan)
