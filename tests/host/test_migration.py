"""A guest moves between two hosts while it runs: it goes on where it was, and leaves nothing where it was.

MIGRATIONS=20 has it move there and back 20 times, with silence looked for each 10 ms; MIGRATED=files only with files
for disks, which are copied; with FAULTS=all everything that may fail does so in each step.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import pytest

from compute_agent.agent.operations.live_migration import LIVE_MIGRATION
from compute_agent.cli.destinations import Destinations
from compute_agent.cli.drain import Drain
from compute_agent.cli.progress_of_many import ManyLines
from compute_agent.instance.block_device import Backend, BlockDevice, FileConnection, FileVolume
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState, OperationView
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from sandbox.commands import run
from tests.functional.death_record import Death, record
from tests.functional.guests import BOOT_SECONDS, Guests, address_of, an_order, until
from tests.host.console import run_on_console
from tests.host.silence import COARSE, FINE, listening

ROUNDS = int(os.environ.get("MIGRATIONS", "1"))
FILL = "seq 1 200000 > /tmp/numbers; for disk in {}; do dd if=/tmp/numbers of=$disk bs=4k conv=fsync || exit; done"
STEPS = [step.name for step in LIVE_MIGRATION.steps]
ONLY_FILES = os.environ.get("MIGRATED") == "files"
EVERY_FAULT = os.environ.get("FAULTS") == "all"
SOME_FAULTS = [("the agent there", "copy"), ("the agent here", "copy")]
CUT = 60
"""Seconds that the link between the hosts is cut for."""
READ = "echo 3 > /proc/sys/vm/drop_caches; for disk in {}; do head -c 1288895 $disk; done | md5sum"
WRITE = (
    "{{ n=0; while sleep 0.5; do n=$((n+1)); for disk in {disks}; do "
    "printf '%0511d\\n' $n | dd of=$disk bs=512 seek=$(({begin}+n)) conv=notrunc,fsync || exit; done; "
    "echo $n > /tmp/written; done; }} > /dev/null 2>&1 & echo $! > /tmp/writer"
)
"""One numbered sector after the other, to each of its disks."""
BEGIN = 100_000
"""The sector before the first of those."""
WRITTEN = (
    "kill $(cat /tmp/writer); n=$(cat /tmp/written); echo 3 > /proc/sys/vm/drop_caches; for disk in {disks}; do "
    "dd if=$disk bs=512 skip={first} count=$n 2>/dev/null | md5sum; done; echo written $n"
)
SECONDS = 300.0
READY = "GUEST READY"
PING = FINE if ROUNDS > 1 else COARSE
TALK = """
import signal, socket, sys, time
ended = []
signal.signal(signal.SIGINT, lambda *_: ended.append(True))
with socket.create_connection((sys.argv[1], 7), 60) as connection, connection.makefile("rw") as lines:
    connection.settimeout(120)
    print("connected", flush=True)
    number, longest = 0, 0.0
    while not ended:
        number, began = number + 1, time.monotonic()
        print(number, file=lines, flush=True)
        if int(lines.readline()) != number: raise OSError("a line is not what was sent")
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.2)
print(f"{number} lines, at the most {longest:.2f} s")
"""
LONGEST_SILENCE = 30.0
"""Seconds, on hosts that are emulated."""


class Traveller:
    """A guest that counts, at home on the first host."""

    def __init__(self, lab: Laboratory, disks: Sequence[BlockDevice], hypervisor: HypervisorName) -> None:
        """Of `disks` a file of the host's is copied when it moves; what both hosts can reach stays there."""
        assert lab.ceph is not None
        self.lab = lab
        self.ceph = lab.ceph
        self.hosts = [Guests(host, hypervisor) for host in lab.hosts]
        self.order = self.hosts[0].boot(an_order(arguments="counter", block_devices=list(disks)))
        self.images = [f"{self.order.uuid}_disk{index}" for index, one in enumerate(disks) if one.backend == "rbd"]
        self.disks = " ".join(f"/dev/vd{'abc'[index]}" for index in range(len(disks)))
        self.run(FILL.format(self.disks))
        self.digest = self.content()

    @property
    def uuid(self) -> str:
        return self.order.uuid

    @property
    def here(self) -> Guests:
        """Where it runs."""
        (host,) = [host for host in self.hosts if self.uuid in _running(host)]
        return host

    @property
    def there(self) -> Guests:
        """Where it does not."""
        (host,) = [host for host in self.hosts if host is not self.here]
        return host

    def run(self, command: str) -> str:
        """What it printed, inside the guest."""
        socket = self.here.client.get_serial_console(self.uuid)["path"]
        return run_on_console(self.here.node, socket, command)

    def content(self) -> str:
        """Of all its disks."""
        return re.findall("[0-9a-f]{32}", self.run(READ.format(self.disks)))[-1]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """It writes all the time; all that it has written is there in the end."""
        self.run(WRITE.format(disks=self.disks, begin=BEGIN))
        yield
        said = self.run(WRITTEN.format(disks=self.disks, first=BEGIN + 1))
        written = int(re.findall(r"written (\d+)", said)[-1])
        assert written > 0
        numbers = "".join(f"{number:0511d}\n" for number in range(1, written + 1))
        wanted = hashlib.md5(numbers.encode(), usedforsecurity=False).hexdigest()
        assert re.findall("[0-9a-f]{32}", said) == [wanted] * len(self.disks.split())
        print(f"{written} sectors were written meanwhile")

    @contextmanager
    def talking(self) -> Iterator[None]:
        """One TCP connection from its first host carries numbered lines there and back, and none is lost."""
        host, log = self.hosts[0].node, f"/tmp/talk-{uuid.uuid4()}"
        talk = f"{sys.executable} -c '{TALK}' {address_of(self.order)} > {log} 2>&1 & echo $! > {log}.pid"
        host.run("sh", "-c", talk)
        until(lambda: "connected" in host.run("cat", log))
        yield
        host.run("sh", "-c", f"kill -INT $(cat {log}.pid)")
        said = until(lambda: re.search(r"(\d+) lines, at the most ([\d.]+) s|Error.*", host.run("cat", log)))
        assert said[1] is not None and int(said[1]) > 0, said[0]
        print(f"{said[1]} lines came back over one connection, none of them after more than {said[2]} s")

    def writers(self) -> set[str]:
        """The addresses of the hosts that have its images open."""
        said = [self.ceph.rbd("status", f"{self.ceph.pool}/{image}") for image in self.images]
        return set(re.findall(r"watcher=([0-9.]+):", "".join(said)))

    def move(self) -> None:
        """To the other host; it has counted on, and not begun anew."""
        former, later = self.here, self.there
        counted = former.counter(self.uuid)
        former.finish(former.client.live_migration(self.uuid, later.node.name), SECONDS)
        until(lambda: later.view(self.uuid).vm_state is VmState.ACTIVE)
        until(lambda: later.counter(self.uuid) > counted, BOOT_SECONDS)
        counts = later.counts(self.uuid)
        assert counts[-1] - counts[0] == len(counts) - 1, "a number is missing, or came twice"

    def settle(self, guests: Guests) -> VmState:
        """Whether it runs there or its process has ended, when all has been done about that."""

        def settled() -> VmState | None:
            view = guests.view(self.uuid)
            runs = (view.vm_state, view.power_state) == (VmState.ACTIVE, PowerState.RUNNING)
            return view.vm_state if view.task is None and (runs or view.vm_state is VmState.STOPPED) else None

        return until(settled, SECONDS)

    def start_again(self, guests: Guests) -> None:
        """From where its process has ended."""
        starts = guests.console(self.uuid).count(READY)
        guests.finish(guests.client.start_instance(self.uuid), SECONDS)
        guests.await_console(self.uuid, READY, starts + 1)

    def assert_whole(self) -> None:
        """One host has it, with all that it wrote; the other has nothing of it."""
        assert self.content() == self.digest
        view = self.here.view(self.uuid)
        assert (view.vm_state, view.power_state) == (VmState.ACTIVE, PowerState.RUNNING), view
        until(lambda: left_on(self.there.node, self.order) == [])
        until(lambda: self.writers() == ({self.here.node.address} if self.images else set()))
        address = address_of(self.order)
        for guests in self.hosts:
            guests.node.run("ping", "-c", "1", "-W", "10", address)


Fault = Callable[[Traveller, VirtualHost, VirtualHost], object]
"""Given the hosts that it leaves and comes to."""


def kill_agent(host: VirtualHost) -> None:
    """And start the next one."""
    host.kill_agent()
    host.start_agent()


def kill_process(traveller: Traveller, host: VirtualHost) -> None:
    """The guest's QEMU there, if it has not ended."""
    for line in host.run("ps", "-e", "-o", "pid,args").splitlines():
        if f"-uuid {traveller.uuid}" in line and "qemu-system" in line:
            host.run("sh", "-c", f"kill -KILL {line.split()[0]} || true")  # it may just have been moved away


def cut_link(host: VirtualHost, other: VirtualHost) -> None:
    """Between the two, both ways; the broker can be reached."""
    host.run("sh", "-c", f"ip route add blackhole {other.address}; sleep {CUT}; ip route del blackhole {other.address}",
             seconds=CUT + SECONDS)  # fmt: skip


def kill_broker(traveller: Traveller) -> None:
    """It comes back with all that it was told to keep."""
    traveller.lab.broker.kill()
    traveller.lab.broker.start()


FAULTS: dict[str, Fault] = {
    "the agent here": lambda _, here, there: kill_agent(here),
    "the agent there": lambda _, here, there: kill_agent(there),
    "the process here": lambda traveller, here, there: kill_process(traveller, here),
    "the process there": lambda traveller, here, there: kill_process(traveller, there),
    "the link": lambda _, here, there: cut_link(here, there),
    "the broker": lambda traveller, here, there: kill_broker(traveller),
}


def _running(guests: Guests) -> set[str]:
    return {one.instance.uuid for one in guests.client.list_instances() if one.vm_state is not VmState.INCOMING}


def left_on(host: VirtualHost, order: Instance) -> list[str]:
    """Of a guest that is not there: process, tap, port, files."""
    taps = [f"tap{port.id[:11]}" for port in order.ports]
    found = [line for line in host.run("ps", "-e", "-o", "args").splitlines() if f"-uuid {order.uuid}" in line]
    found += [tap for tap in taps if tap in host.run("ls", "/sys/class/net")]
    found += [tap for tap in taps if tap in host.run("ovs-vsctl", "list-ports", "br-int")]
    found += host.run("find", "/var/lib/compute-agent", "/run/compute-agent", "-name", f"*{order.uuid}*").split()
    return found


@pytest.fixture(scope="module")
def traveller(lab: Laboratory) -> Iterator[Traveller]:
    yield from _traveller(lab, own_disks("qcow2") if ONLY_FILES else own_disks("qcow2", "rbd"))


@pytest.fixture
def light_traveller(lab: Laboratory) -> Iterator[Traveller]:
    """All that it has is in Ceph, so that only its memory is copied."""
    yield from _traveller(lab, own_disks("rbd"))


@pytest.fixture
def own_traveller(lab: Laboratory) -> Iterator[Traveller]:
    """In a machine of our own, with a disk of either kind."""
    yield from _traveller(lab, own_disks("qcow2", "rbd"), "vmm")


@pytest.fixture
def sharing_traveller(lab: Laboratory) -> Iterator[Traveller]:
    """One disk is copied, and one is a volume in a file that both hosts have."""
    yield from _traveller(lab, [*own_disks("qcow2"), shared_volume(lab)])


def own_disks(*backends: Backend) -> list[BlockDevice]:
    return [BlockDevice(source_type="blank", size_gb=1, backend=backend) for backend in backends]


def shared_volume(lab: Laboratory) -> BlockDevice:
    """A new one, in a file that all hosts have."""
    assert lab.shared is not None
    volume_id = str(uuid.uuid4())
    run("qemu-img", "create", "-q", "-f", "qcow2", lab.shared / volume_id, "64M")
    volume = FileVolume(path=f"/shared/{volume_id}", format="qcow2")
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=FileConnection(data=volume))


def _traveller(
    lab: Laboratory, disks: Sequence[BlockDevice], hypervisor: HypervisorName = "qemu"
) -> Iterator[Traveller]:
    """What is left of it anywhere fails the test, or the module."""
    traveller = Traveller(lab, disks, hypervisor)
    yield traveller
    for guests in traveller.hosts:
        if traveller.uuid in {one.instance.uuid for one in guests.client.list_instances()}:
            guests.finish(guests.client.terminate_instance(traveller.uuid), SECONDS)
        assert left_on(guests.node, traveller.order) == []
    ceph = traveller.ceph
    until(lambda: traveller.uuid not in ceph.rbd("ls", ceph.pool), 60)


def test_a_guest_moves_there_and_back(traveller: Traveller) -> None:
    _travel(traveller)


def test_a_guest_whose_disk_is_in_ceph_moves_there_and_back(light_traveller: Traveller) -> None:
    _travel(light_traveller)


def test_a_machine_of_our_own_moves_there_and_back(own_traveller: Traveller) -> None:
    _travel(own_traveller)


def test_a_guest_moves_there_and_back_with_a_volume_that_both_hosts_have(sharing_traveller: Traveller) -> None:
    traveller = sharing_traveller
    _travel(traveller)
    shared, here = traveller.lab.shared, traveller.here.node.name
    assert shared is not None
    assert {path.read_text() for path in shared.glob("*.owner")} == {f"{here}, instance {traveller.uuid}\n"}
    assert list(shared.glob("*.moving.*")) == []


def _travel(traveller: Traveller) -> None:
    with traveller.writing(), traveller.talking():
        for _ in range(ROUNDS * 2):
            with listening(traveller.hosts[0].node, address_of(traveller.order), PING) as silence:
                traveller.move()
            print(f"its network was silent for {silence[0]:.2f} s")
            assert silence[0] < LONGEST_SILENCE
            traveller.assert_whole()


def test_a_disk_with_a_snapshot_moves_with_it_and_loses_it_there(traveller: Traveller) -> None:
    snapshot = str(uuid.uuid4())
    traveller.here.finish(traveller.here.client.volume_snapshot_create(traveller.uuid, "disk0", snapshot), SECONDS)
    traveller.run(FILL.format(traveller.disks).replace("200000", "190000"))
    traveller.digest = traveller.content()
    traveller.move()
    traveller.assert_whole()
    traveller.here.finish(traveller.here.client.volume_snapshot_delete(traveller.uuid, "disk0", snapshot), SECONDS)
    traveller.assert_whole()


def test_a_guest_is_stopped_for_its_move_and_started_there_with_what_it_wrote(traveller: Traveller) -> None:
    former, later = traveller.here, traveller.there
    former.finish(former.client.migrate_instance(traveller.uuid, later.node.name, stop=True), SECONDS)
    until(lambda: later.view(traveller.uuid).vm_state is VmState.ACTIVE)
    later.await_console(traveller.uuid, READY)
    traveller.assert_whole()


def test_a_host_is_drained_and_takes_nobody_until_that_is_undone(traveller: Traveller) -> None:
    former, later = traveller.here, traveller.there
    former.client.host_maintenance_mode(True)
    (fate,) = Drain(former.client, Destinations([later.client]), 2, ManyLines(None)).run()
    assert (fate.uuid, fate.moved_to, fate.reason) == (traveller.uuid, later.node.name, None)
    refused = later.fail(later.client.live_migration(traveller.uuid, former.node.name))
    assert refused.fault is not None and refused.fault.type == "HostInMaintenance"
    former.client.host_maintenance_mode(False)
    traveller.move()
    traveller.assert_whole()


def test_a_host_that_nobody_serves_is_refused_and_the_guest_stays(traveller: Traveller) -> None:
    here = traveller.here
    operation = here.fail(here.client.live_migration(traveller.uuid, "nowhere"))
    assert operation.fault is not None and "nowhere" in operation.fault.message
    assert here.view(traveller.uuid).vm_state is VmState.ACTIVE


def has_come_to(step: str, operation: OperationView) -> bool:
    assert operation.state is not OperationState.FAILED, operation.fault
    return step in {one.name for one in operation.steps}


@pytest.mark.parametrize(("fault", "step"), product(FAULTS, STEPS) if EVERY_FAULT else SOME_FAULTS)
def test_something_fails_and_one_host_has_the_guest(traveller: Traveller, fault: str, step: str) -> None:
    source, destination = traveller.here, traveller.there
    counted, migration = source.counter(traveller.uuid), str(uuid.uuid4())
    source.client.live_migration(traveller.uuid, destination.node.name, migration)
    until(lambda: has_come_to(step, source.client.get_operation(migration)), SECONDS)
    FAULTS[fault](traveller, source.node, destination.node)
    operation = source.client.wait(migration, SECONDS)
    owner = destination if operation.state is OperationState.DONE else source
    state = traveller.settle(owner)
    assert traveller.here is owner
    if state is VmState.STOPPED:
        assert fault.startswith("the process"), "nothing else ends a guest"
        traveller.start_again(owner)
    else:
        until(lambda: owner.counter(traveller.uuid) > counted)
    traveller.assert_whole()
    record(
        Death(
            case="live migration between virtual hosts",
            who=fault,
            storage="qcow2, rbd",
            moment=STEPS.index(step) + 1,
            died_in=step,
            again=0,
            moments=len(STEPS),
            steps=len(STEPS),
            is_undone=owner is source,
        )
    )
