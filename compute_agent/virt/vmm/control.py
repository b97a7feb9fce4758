"""What a machine's monitor can be asked for, in QEMU's words.

Source: QEMU's qapi/ (run-state.json, machine.json, block-core.json, qdev.json, qom.json, migration.json, misc.json).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, TypeVar

from compute_agent import __version__
from compute_agent.errors import ComputeAgentError, MonitorError
from compute_agent.virt.vmm.machine import Machine
from compute_agent.virt.vmm.migration.parameters import Capabilities, Parameters
from compute_agent.virt.vmm.monitor.command import Arguments, Command, Commands, Files, Nothing
from compute_agent.virt.vmm.plan import NicPlan
from compute_agent.virt.vmm.run_state import RunState
from compute_agent.virt.vmm.virtio.vhost_user_blk import VhostUserBlock

A = TypeVar("A", bound=Arguments)
Run = Callable[[A, Files], object]

_MAJOR, _MINOR, _MICRO = (int(number) for number in __version__.split(".")[:3])
VERSION: Mapping[str, object] = {
    "qemu": {"major": _MAJOR, "minor": _MINOR, "micro": _MICRO},
    "package": "compute-agent vmm",
}
"""What the greeting says."""
_SCHEME = "fd:"
_CHILD = "child<device>"


class Add(Arguments, frozen=True):
    """Of ``device_add``. What one driver takes is of no use to the other."""

    driver: Literal["vhost-user-blk-pci", "virtio-net-pci"]
    id: str
    addr: int
    fd: str = ""
    fds: Sequence[str] = ()
    vhostfds: Sequence[str] = ()
    mac: str = ""
    mtu: int = 1500


class Named(Arguments, frozen=True):
    """Of ``device_del``."""

    id: str


class Listed(Arguments, frozen=True):
    """Of ``qom-list``; nothing but the devices can be listed."""

    path: Literal["/machine/peripheral"]


class Resize(Arguments, frozen=True):
    """Of ``block_resize``; bytes."""

    device: str
    size: int


class Reconnect(Arguments, frozen=True):
    """Of ``x-reconnect-disk``."""

    device: str
    fd: str


class Migrate(Arguments, frozen=True):
    """Of ``migrate`` and ``migrate-incoming``: by what was handed over, and no other way."""

    uri: str


class Continue(Arguments, frozen=True):
    """Of ``migrate-continue``: where the machine stands still for what has to be done before the last of it."""

    state: Literal["pre-switchover"]


class Announce(Arguments, frozen=True):
    """Of ``announce-self``; milliseconds."""

    initial: int
    max: int
    rounds: int
    step: int


def commands_of(machine: Machine) -> Commands:
    """All that are not the monitor's own."""
    life, slots, moves = machine.life, machine.slots, machine.moves
    return {
        "query-status": _command(Nothing, lambda *_: _status(life.state)),
        "query-version": _command(Nothing, lambda *_: VERSION),
        "query-name": _command(Nothing, lambda *_: {"name": machine.name}),
        "query-cpus-fast": _command(Nothing, lambda *_: machine.describe_processors()),
        "query-block": _command(Nothing, lambda *_: [_block(*disk) for disk in slots.devices(VhostUserBlock)]),
        "qom-list": _command(Listed, lambda *_: [{"name": name, "type": _CHILD} for name in slots.names()]),
        "query-stats": _command(Nothing, lambda *_: machine.statistics()),
        "query-migrate": _command(Nothing, lambda *_: moves.carrier.describe()),
        "query-migrate-capabilities": _command(Nothing, lambda *_: moves.wishes.describe_capabilities()),
        "stop": _command(Nothing, lambda *_: life.pause()),
        "cont": _command(Nothing, lambda *_: life.resume()),
        "system_powerdown": _command(Nothing, lambda *_: machine.press_power_button()),
        "system_reset": _command(Nothing, lambda *_: life.reset()),
        "quit": _command(Nothing, lambda *_: life.end()),
        "device_add": _command(Add, lambda add, files: _add(machine, add, files)),
        "device_del": _command(Named, lambda named, _: slots.ask_for(named.id)),
        "block_resize": _command(Resize, lambda to, _: machine.disks.resize(to.device, to.size)),
        "x-reconnect-disk": _command(
            Reconnect, lambda to, files: machine.disks.reconnect(to.device, _socket(files, to.fd))
        ),
        "migrate-set-parameters": _command(Parameters, lambda wanted, _: moves.wishes.set_parameters(wanted)),
        "migrate-set-capabilities": _command(Capabilities, lambda wanted, _: moves.wishes.set_capabilities(wanted)),
        "migrate": _command(Migrate, lambda to, files: moves.send(files.take(_name(to)))),
        "migrate-incoming": _command(Migrate, lambda by, files: moves.take(_socket(files, _name(by)))),
        "migrate-continue": _command(Continue, lambda *_: moves.go_on()),
        "migrate_cancel": _command(Nothing, lambda *_: moves.carrier.cancel()),
        "announce-self": _command(Announce, lambda how, _: moves.announce(how)),
    }


def _command(arguments: type[A], run: Run[A]) -> Command[A]:
    """What the machine refuses is for the client to know."""

    def explained(decoded: A, files: Files) -> object:
        try:
            return run(decoded, files)
        except MonitorError:
            raise
        except ComputeAgentError as error:
            raise MonitorError(str(error)) from error

    return Command(arguments, explained)


def _status(state: RunState) -> Mapping[str, object]:
    return {"status": str(state), "running": state is RunState.RUNNING, "singlestep": False}


def _block(name: str, disk: VhostUserBlock) -> Mapping[str, object]:
    return {"device": name, "qdev": name, "io-status": "ok" if disk.is_served else "failed", "size": disk.size}


def _add(machine: Machine, add: Add, files: Files) -> None:
    if add.driver == "vhost-user-blk-pci":
        machine.disks.add(add.id, add.addr, _socket(files, add.fd))
    else:
        with ExitStack() as unused:
            taps, vhosts = (_take_all(unused, files, names) for names in (add.fds, add.vhostfds))
            unused.pop_all()
        machine.add_nic(NicPlan(name=add.id, slot=add.addr, taps=taps, vhosts=vhosts, mac_address=add.mac, mtu=add.mtu))
    machine.slots.announce(add.id)


def _take_all(unused: ExitStack, files: Files, names: Sequence[str]) -> list[int]:
    taken = []
    for name in names:
        taken.append(files.take(name))
        unused.callback(os.close, taken[-1])
    return taken


def _socket(files: Files, name: str) -> socket.socket:
    fd = files.take(name)
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        os.close(fd)
        raise MonitorError(f"'{name}' is not a socket: {error}") from error


def _name(way: Migrate) -> str:
    if not way.uri.startswith(_SCHEME):
        raise MonitorError(f"uri: '{way.uri}' is not {_SCHEME}NAME: only what was handed over leads anywhere")
    return way.uri.removeprefix(_SCHEME)
