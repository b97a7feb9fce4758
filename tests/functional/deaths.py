"""An operation on a real guest's disks or ports, whose agent kills itself in the middle; and what has to hold then."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

import msgspec

from compute_agent.agent.journal import Journal
from compute_agent.errors import ComputeAgentError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.model import Instance
from compute_agent.instance.state import LIVING, PowerState, VmState
from compute_agent.rpc.client import ComputeClient
from sandbox import disk_audit, port_audit
from sandbox.commands import SandboxError, run
from sandbox.fate import Fate
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, a_port, an_order, halting_kernel, pings, until, with_hypervisor
from tests.functional.shell import attach, run_inside

ROOT_MARK, VOLUME_MARK = 5, 9
"""Sectors."""
_ROUTER, _ON_PORT = "10.78.0.1", "10.78.0.2"
"""Addresses of the host, and of the guest's NIC that comes and goes."""
END = ": end"
"""Of the last moment's name: all is done, and the journal does not know."""
NEVER, SOON = 1_000_000, 7
"""Moments."""


class Scene:
    """A guest that counts, one more disk and one more port for it, and the node's fate."""

    def __init__(self, node: Node, switch: Switch, fate: Fate, root: BlockDevice, volume: BlockDevice) -> None:
        self.deaths = 0
        """In the last operation: the first of them, and those in the recovery."""
        self.moments, self.steps = 0, 0
        """Of the last operation, until the first death."""
        self.node = node
        self.switch = switch
        self.fate = fate
        self.port = a_port()
        self.guests = Guests(node)
        self.volume = volume
        self.root = root
        self.guest = self.boot_guest()
        self.other = self.guest
        """Another instance, of which there is one at a time."""
        self.wanted = self.guest
        """One that is to be booted."""
        self.number, self.copy_id, self.parent_id = 1, "", ""
        """New ones for each operation: how large or fast a disk is to be, what a copy is called."""
        self._pid: int | None = None
        self.renew_pid()
        self.mark("vda", ROOT_MARK)
        self.have_volume(True)
        self.mark("vdb", VOLUME_MARK)

    def boot_guest(self) -> Instance:
        """One more that counts."""
        return self.guests.boot(self.an_order(arguments="counter", config_drive=False))

    def an_order(self, *devices: BlockDevice, arguments: str = "", config_drive: bool) -> Instance:
        """Of one more guest, with a disk to start from and others."""
        order = an_order(arguments=arguments, config_drive=config_drive, block_devices=[self.root, *devices])
        return with_hypervisor(order, "qemu")

    def revive_guest(self) -> None:
        """Its process has ended: it runs again, and its system is up."""
        starts = self.guests.console(self.guest.uuid).count("GUEST READY")
        self.guests.finish(self.client.start_instance(self.guest.uuid))
        self.guests.await_console(self.guest.uuid, "GUEST READY", starts + 1)
        self.renew_pid()

    def renew_pid(self) -> None:
        """The guest has a new process."""
        self._pid = self.guests.view(self.guest.uuid).pid

    @property
    def client(self) -> ComputeClient:
        return self.node.client

    def renew(self) -> None:
        """Another operation, that has not been asked for before."""
        self.number += 1
        self.copy_id = str(uuid.uuid4())

    def run(self, command: str) -> str:
        """What it prints in the guest."""
        return run_inside(self.guests, self.guest.uuid, command)

    def mark(self, disk: str, sector: int) -> None:
        """Durably."""
        self.run(f"echo kept | dd of=/dev/{disk} bs=512 seek={sector} conv=sync,fsync")

    def is_marked(self, disk: str, sector: int) -> bool:
        """Still, or again."""
        return "kept" in self.run(f"dd if=/dev/{disk} bs=512 skip={sector} count=1 2>/dev/null | head -c 4")

    def present_volume(self) -> BlockDevice | None:
        """What the record has of it."""
        return find_device(self.guests.view(self.guest.uuid).instance, str(self.volume.volume_id))

    def have_volume(self, attached: bool) -> None:
        if attached is (self.present_volume() is None):
            if not attached:
                self.guests.finish(self.client.detach_volume(self.guest.uuid, str(self.volume.volume_id)))
                return
            attach(self.guests, self.guest.uuid, self.volume)
            if self.volume.source_type == "blank":
                self.mark("vdb", VOLUME_MARK)

    def has_port(self) -> bool:
        """By the record."""
        return self.port in [
            msgspec.structs.replace(port, device_name=None) for port in self.guests.view(self.guest.uuid).instance.ports
        ]

    def have_port(self, attached: bool) -> None:
        if attached and not self.has_port():
            self.guests.finish(self.client.attach_interface(self.guest.uuid, self.port))
        elif not attached and self.has_port():
            self.guests.finish(self.client.detach_interface(self.guest.uuid, self.port.id))

    def nics(self) -> str:
        """Their MAC addresses, as the guest knows them."""
        return self.run("cat /sys/class/net/*/address")

    def reaches_port(self) -> bool:
        """The guest finds the NIC, and packets pass through it."""
        until(lambda: self.port.mac_address in self.nics())
        run("ip", "address", "replace", f"{_ROUTER}/24", "dev", "br-int")
        nic = f"$(basename $(dirname $(grep -l {self.port.mac_address} /sys/class/net/*/address)))"
        self.run(f"nic={nic}; ip address flush dev $nic; ip link set $nic up; ip address add {_ON_PORT}/24 dev $nic")
        return until(lambda: pings(_ON_PORT))

    def an_idle_order(self, *devices: BlockDevice) -> Instance:
        """Of a guest whose system does nothing, which takes next to no time."""
        order = self.an_order(*devices, config_drive=False)
        assert order.direct_boot is not None
        kernel = halting_kernel(self.node.image_source / "halting-kernel")
        return msgspec.structs.replace(order, direct_boot=msgspec.structs.replace(order.direct_boot, kernel=kernel))

    def boot_other(self, *devices: BlockDevice) -> None:
        """One of those."""
        order = self.an_idle_order(*devices)
        self.guests.finish(self.client.build_and_run_instance(order))
        self.other = order

    def end_other(self) -> None:
        """Where there is one."""
        if self.other is not self.guest:
            self.guests.finish(self.client.terminate_instance(self.other.uuid))
            self.other = self.guest

    def assert_undisturbed(self) -> None:
        """The guest has noticed nothing."""
        view, count = self.guests.view(self.guest.uuid), self.guests.counter(self.guest.uuid)
        assert (view.vm_state, view.power_state, view.pid) == (VmState.ACTIVE, PowerState.RUNNING, self._pid), view
        assert view.task is None and view.fault is None, view
        assert self.is_marked("vda", ROOT_MARK)
        until(lambda: self.guests.counter(self.guest.uuid) > count)
        counts = self.guests.counts(self.guest.uuid)
        assert counts == sorted(counts), "it has not begun anew"

    def leftovers(self, gone: str | None) -> list[str]:
        """While no agent runs; nothing may be left of the instance that is `gone`."""
        journal = Journal(self.node.directory / "state/journal.sqlite")
        rows = [row for row in journal.instances() if row.record.instance.uuid != gone]
        journal.close()
        running = [row.record.instance for row in rows if row.vm_state in LIVING]
        stopped = [row.record.instance for row in rows if row.vm_state not in LIVING]
        processes = len(self.node.qemu_pids())
        return [
            *disk_audit.surplus(self.node, running, stopped),
            *port_audit.difference(self.switch, running),
            *([] if processes == len(running) else [f"{processes} processes of {len(running)} guests"]),
        ]


Order = Callable[[Scene, str], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One verb: what has to be there before, how it is asked for, and how one sees that it was done."""

    operation: str
    prepare: Callable[[Scene], object]
    order: Order
    """Asks, under a request id."""
    check: Callable[[Scene], bool]
    is_journaled: bool = True
    """Else it is done when it is answered, and whoever got no answer asks again."""
    is_asked: bool = True
    """Else it happens by itself, and nobody asks again."""
    ends_other: bool = False
    changes_state: bool = False
    """The journal learns at the very end what runs: what is left is looked for after that."""


def survive(scene: Scene, case: Case, moment: int) -> str:
    """The agent dies at that moment, and again in the recovery; where it died at first."""
    scene.renew()
    case.prepare(scene)
    request_id = str(uuid.uuid4())
    died_in = _die(scene, case, request_id, moment)
    scene.deaths, scene.moments, scene.steps = 1, len(scene.fate.moments()), scene.fate.steps()
    last, again = died_in, moment % SOON + 1
    while not last.endswith(END):
        last, again = _die_again(scene, case, request_id, again), NEVER
        scene.deaths += 1
    _assert_whole(scene, case, request_id, died_in)
    return died_in


def _die(scene: Scene, case: Case, request_id: str, moment: int) -> str:
    scene.fate.decree(case.operation, moment)
    errors = ask_in_vain(lambda: case.order(scene, request_id))
    try:
        scene.node.await_death()
    except SandboxError as error:
        raise AssertionError(f"{case.operation} was not carried out to its moment {moment}: {errors}") from error
    return scene.fate.last_moment()


def ask_in_vain(ask: Callable[[], object]) -> list[ComputeAgentError]:
    """Whose agent dies may get no answer, and is not waited for; what it says instead, if anything."""
    errors: list[ComputeAgentError] = []

    def asked() -> None:
        try:
            ask()
        except ComputeAgentError as error:
            errors.append(error)

    Thread(target=asked, daemon=True).start()
    return errors


def _die_again(scene: Scene, case: Case, request_id: str, moment: int) -> str:
    scene.fate.decree(case.operation, moment)
    if case.is_journaled:
        scene.node.start_to_die()
        return scene.fate.last_moment()
    scene.node.start()
    return _die(scene, case, request_id, moment)


def _assert_whole(scene: Scene, case: Case, request_id: str, died_in: str) -> None:
    if not case.changes_state:
        _assert_nothing_is_left(scene, case, died_in)
    scene.fate.spare()
    scene.node.start()
    if case.is_asked:
        _assert_done(scene, case, request_id, died_in)
    assert case.check(scene), died_in
    if case.changes_state:
        scene.node.kill()
        _assert_nothing_is_left(scene, case, died_in)
        scene.node.start()
    scene.assert_undisturbed()


def _assert_done(scene: Scene, case: Case, request_id: str, died_in: str) -> None:
    case.order(scene, request_id)  # who got no answer asks again, and is told the same
    if case.is_journaled:
        view = scene.client.wait(request_id, 60)
        assert view.fault is None, f"{died_in}: {view.fault}"


def _assert_nothing_is_left(scene: Scene, case: Case, died_in: str) -> None:
    left = scene.leftovers(scene.other.uuid if case.ends_other else None)
    assert left == [], f"{died_in}: {left}"
