"""A world of plain sets in place of disks, switch and processes: what survives when the agent is killed.

The fakes keep the rooms' contracts; every side effect passes `World.touch` before and after it happens, and
there the agent can be killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compute_agent.agent.announcer import Announcer
from compute_agent.agent.execution import Execution
from compute_agent.agent.journal import Journal
from compute_agent.agent.node import Node
from compute_agent.agent.peers import Peer, Peers
from compute_agent.agent.request import Request
from compute_agent.agent.settings import AgentSettings, MigrationSettings
from compute_agent.agent.turns import Turns
from compute_agent.agent.work import Work
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, MigrationRefused, MonitorError
from compute_agent.host.durable import part_of, publish
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.devices import BootFiles, Disk, FileSource, Nic
from compute_agent.instance.machine import ROOT_PORTS, Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.state import PowerState
from compute_agent.instance.view import CachedImage
from compute_agent.network.contract import PluggedPort, PortRequest
from compute_agent.virt.contract import OnDiskFailure, OnGuestExit, StartRequest
from compute_agent.virt.placement import named, names_beside_disks, place, remove_device
from tests.unit.agent.copying import FakeCopies, FakeCopyStore
from tests.unit.agent.layering import FIRST, FakeLayers, FakeLayerStore, Layering
from tests.unit.agent.moving import FakeFileMoves, FakeIncoming, FakeMoves, FakeOutgoing, Moving

UUID = "00000000-0000-4000-8000-000000000001"
PORT_ID = "00000000-0000-4000-8000-0000000000f1"
INSTANCE = Instance(
    uuid=UUID,
    name="web",
    flavor=Flavor(vcpus=1, memory_mb=64),
    block_devices=[BlockDevice(source_type="blank", size_gb=1)],
    ports=[Port(id=PORT_ID, mac_address="52:54:00:00:00:01")],
)
OTHER_PORT = Port(id="10000000-0000-4000-8000-0000000000f2", mac_address="52:54:00:00:00:02")
"""One more, that it may get."""

FACTS = HostFacts(hypervisor_version="7.2.0", accelerator="kvm", cpu_vendor="AMD", cpu_flags=["sse2"])


class Killed(BaseException):
    """SIGKILL: nothing in the agent may catch it."""


@dataclass
class World:
    """What is really there, whoever looks."""

    directory: Path
    boot_id: str = "first"
    """The host's."""
    disks: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    """Made for an instance that was there already."""
    connected: set[str] = field(default_factory=set)
    """Instances that have a disk from outside."""
    plugged: dict[str, DiskQos | None] = field(default_factory=dict)
    """Disks that a guest has got while it ran, and their limits."""
    sizes: dict[str, int | None] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    """Disks that have been changed where they are served, while a guest had them."""
    serving: bool = True
    """Block servers are there."""
    jobs: set[str] = field(default_factory=set)
    """Under way in the guest's process, or done and not dismissed."""
    marks: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    moments: set[str] = field(default_factory=set)
    """Copies that have not got their name."""
    copies: set[str] = field(default_factory=set)
    content: str = "own"
    """Of the disks: the instance's own, or that of a backup."""
    restoring: set[str] = field(default_factory=set)
    """What is beside the disks."""
    layering: Layering = field(default_factory=Layering)
    moving: Moving = field(default_factory=Moving)
    ports: set[str] = field(default_factory=set)
    """On the switch."""
    taps: dict[str, str] = field(default_factory=dict)
    """Those that a guest's process holds, by the NICs' names: the MAC addresses."""
    nics: set[str] = field(default_factory=set)
    """Those that a guest has got while it ran, by name."""
    guests: dict[str, PowerState] = field(default_factory=dict)
    resets: int = 0
    starts: int = 0
    connections: int = 0
    """That were made to all disks of an instance."""
    obedient: bool = True
    """Guests shut down when they are asked to."""
    undying: bool = False
    """A guest that is killed stays a process for longer than anybody waits."""
    touches: list[str] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    on_exit: OnGuestExit = lambda exited: None
    on_disk_failure: OnDiskFailure = lambda failure: None
    hypervisor: Literal["qemu", "vmm"] = "qemu"
    kill_at: int | None = None
    fail_at: str | None = None
    watcher: Callable[[], None] = lambda: None
    """Sees every moment."""
    on_moment: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    """What else happens in one, by its name."""

    def touch(self, what: str, effect: Callable[[], None]) -> None:
        """Let `effect` happen, or the agent be killed before or after it, or the effect be refused."""
        self._moment(f"before {what}")
        if what == self.fail_at:
            raise ComputeAgentError(f"{what} was told to fail")
        effect()
        self._moment(f"after {what}")

    def _moment(self, name: str) -> None:
        self.touches.append(name)
        self.watcher()
        self.on_moment.get(name, lambda: None)()
        if PowerState.RUNNING in self.guests.values():
            self.layering.write()
        if self.kill_at == len(self.touches):
            raise Killed(name)

    def power_failure(self) -> None:
        """Guests are gone, and what went on in them."""
        self.guests.clear()
        self.jobs.clear()
        self.layering.power_failure()

    def saved(self, uuid: str) -> Path:
        return self.directory / f"{uuid}.memory"

    def left_of(self, uuid: str) -> list[str]:
        """Everything that is still there of an instance, in words."""
        found = {
            "disk": uuid in self.disks,
            "port": PORT_ID in self.ports,
            "guest": uuid in self.guests,
            "other port": OTHER_PORT.id in self.ports,
            "other tap": OTHER_PORT.mac_address in self.taps.values(),
            "other nic": bool(self.nics),
            "memory": self.saved(uuid).exists(),
            "half its memory": part_of(self.saved(uuid)).exists(),
            "volume": bool(self.volumes),
            "connection": uuid in self.connected,
            "plugged": bool(self.plugged),
            "job": bool(self.jobs),
            "mark": bool(self.marks),
            "part": bool(self.parts),
            "moment": bool(self.moments),
            "copy": bool(self.copies),
            "restored": self.content != "own",
            "beside": bool(self.restoring),
            "layer": bool(self.layering.files),
            "held": self.layering.is_held,
            "exports": self.moving.disks_are_open,
            "mirror": self.moving.is_mirrored,
            "elsewhere": self.moving.is_elsewhere,
            "files": bool(self.moving.files_came),
            "proof": bool(self.moving.proofs),
        }
        return [name for name, there in found.items() if there]


class FakeGuest:
    """Keeps `compute_agent.virt.contract.Guest` over the world."""

    pid = 1

    def __init__(self, world: World, uuid: str) -> None:
        self._world = world
        self.instance_uuid = uuid
        self.copies = FakeCopies(world)
        self.layers = FakeLayers(world)
        self.outgoing = FakeOutgoing(world, uuid)
        self.incoming = FakeIncoming(world)

    @property
    def open_disks(self) -> FakeGuest | None:
        return self if self._world.hypervisor == "qemu" else None

    def _become(self, state: PowerState) -> None:
        self._world.guests[self.instance_uuid] = state
        if state is PowerState.RUNNING:
            moving = self._world.moving
            moving.is_sent = False
            assert moving.shared is None or moving.shared.owner is self._world

    def status(self, seconds: float | None = None) -> PowerState:
        return self._world.guests.get(self.instance_uuid, PowerState.SHUTDOWN)

    def pause(self) -> None:
        self._world.touch("pause", lambda: self._become(PowerState.PAUSED))

    def resume(self) -> None:
        if self._world.moving.is_kept_out(self.instance_uuid):
            raise MonitorError('Failed to get "write" lock')
        self._world.touch("resume", lambda: self._become(PowerState.RUNNING))

    def press_power_button(self) -> None:
        if self._world.obedient and self.instance_uuid in self._world.guests:
            self._world.touch("shutdown", lambda: self._become(PowerState.SHUTDOWN))

    def wait_for_shutdown(self, seconds: float) -> bool:
        return self.status() is PowerState.SHUTDOWN

    def reset(self) -> None:
        def effect() -> None:
            self._world.resets += 1
            self._become(PowerState.RUNNING)

        self._world.touch("reset", effect)

    def save(self, path: Path) -> None:
        part_of(path).touch()
        self._world.touch("save", lambda: publish(part_of(path), path))

    def kill(self) -> None:
        if self._world.undying:
            self._become(PowerState.UNRESPONSIVE)
            raise DeadlineExceeded("it has not died of SIGKILL")
        self._world.touch("kill", self._die)

    def _die(self) -> None:
        self._world.guests.pop(self.instance_uuid, None)
        self._world.moving.end()
        if self._world.hypervisor == "qemu":
            self._world.moving.close_disks()
        for of_its_process in (self._world.plugged, self._world.taps, self._world.nics):
            of_its_process.clear()

    def attach_disk(self, disk: Disk, machine: Machine) -> None:
        assert disk.name not in self._world.plugged
        self._world.touch("attach", lambda: self._world.plugged.update({disk.name: disk.qos}))

    def detach_disk(self, name: str) -> None:
        self._world.touch("detach", lambda: self._world.plugged.pop(name, None) and None)

    def resize_disk(self, name: str, size: int | None) -> None:
        self._world.touch("resize", lambda: self._world.sizes.update({name: size}))

    def set_disk_qos(self, name: str, qos: DiskQos | None) -> None:
        self._world.touch("limit", lambda: self._world.plugged.update({name: qos}))

    def reconnect_disk(self, disk: Disk) -> None: ...

    def has_device(self, name: str) -> bool:
        return name in self._world.plugged or name in self._world.nics

    def attach_nic(self, nic: Nic, machine: Machine) -> None:
        assert nic.name in machine.slots
        assert nic.name not in self._world.nics
        self._world.touch("hand over", lambda: self._world.taps.update({nic.name: nic.mac_address}))
        self._world.touch("attach", lambda: self._world.nics.add(nic.name))

    def detach_nic(self, name: str) -> None:
        self._world.touch("detach", lambda: self._world.nics.discard(name))
        self._world.touch("take back", lambda: self._world.taps.pop(name, None) and None)

    def diagnostics(self) -> Mapping[str, object]:
        return {}


class FakeHypervisor:
    """Keeps `compute_agent.virt.contract.Hypervisor` over the world."""

    def __init__(
        self,
        world: World,
        on_exit: OnGuestExit = lambda exited: None,
        on_disk_failure: OnDiskFailure = lambda failure: None,
    ) -> None:
        self._world = world
        world.on_exit, world.on_disk_failure = on_exit, on_disk_failure

    def describe(self) -> Mapping[str, object]:
        return {"name": "fake"}

    def check(self, instance: Instance) -> None:
        """Any host is good enough."""

    def design(self, instance: Instance) -> Machine:
        names = [name for name, _ in named(instance.block_devices)] + names_beside_disks(instance)
        slots = {name: slot for slot, name in enumerate(names)}
        return Machine(hypervisor=self._world.hypervisor, type="pc-q35-7.2", accelerator="tcg", cpu="max", slots=slots)

    def start(self, request: StartRequest) -> FakeGuest:
        uuid = request.instance.uuid
        if uuid not in self._world.guests:
            newest = ([FIRST] + [layer for one in request.instance.block_devices for layer in one.layers])[-1]
            assert newest in self._world.layering.whole, "the guest would not find what it wrote"
            self._world.layering.writes_to = newest
            if request.is_incoming:
                lower = self._world.moving.files_taken, FakeFileMoves(self._world).lower_of(request.instance, ["disk0"])
                assert lower[0] >= set(lower[1]), "it would stand on nothing"
            self._world.touch("start", lambda: self._start(uuid, request))
        return FakeGuest(self._world, uuid)

    def _start(self, uuid: str, request: StartRequest) -> None:
        assert request.saved_state is None or request.saved_state.exists()
        self._world.starts += 1
        is_held = request.saved_state is not None or request.is_incoming
        self._world.guests[uuid] = PowerState.PAUSED if is_held else PowerState.RUNNING
        self._world.taps |= {nic.name: nic.mac_address for nic in request.nics}
        self._world.nics |= self._world.taps.keys() - {"net0"}

    def facts(self, machine: Machine) -> HostFacts:
        return FACTS

    def check_incoming(self, machine: Machine, facts: HostFacts | None, *, post_copy: bool = False) -> None:
        if self._world.moving.is_refused:
            raise MigrationRefused("cpu features", "missing here: avx512f")
        if post_copy is not (self._world.moving.on_timeout == "post-copy"):
            raise MigrationRefused("post_copy", "the source has said something else than its policy is")
        if machine.hypervisor != self._world.hypervisor or facts not in (FACTS, None):
            raise MigrationRefused("facts", "others are true here")

    def adopt(self, instance_uuid: str) -> FakeGuest | None:
        return FakeGuest(self._world, instance_uuid) if instance_uuid in self._world.guests else None

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        return machine

    def add_nic(self, machine: Machine, port: Port) -> Machine:
        return place(machine, str(port.device_name), range(ROOT_PORTS), "slots", "port")

    def remove_device(self, machine: Machine, name: str) -> Machine:
        return remove_device(machine, name)

    def limit_disk(self, instance: Instance, disk: Disk) -> None: ...

    def console_output(self, instance_uuid: str, length: int) -> bytes:
        return b""

    def console_socket(self, instance_uuid: str) -> Path:
        return self._world.directory / "console.sock"

    def saved_state_path(self, instance_uuid: str) -> Path:
        return self._world.saved(instance_uuid)

    def forget(self, instance_uuid: str) -> None:
        self._world.touch("forget", lambda: self._world.saved(instance_uuid).unlink(missing_ok=True))

    def inspect(self) -> set[str]:
        return set(self._world.guests)

    def foreign(self) -> set[str]:
        return {f"process {one}" for one in self._world.foreign}

    def close(self) -> None: ...


class FakeNetwork:
    """Keeps `compute_agent.network.contract.PortDriver` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def interface_name(self, port_id: str) -> str:
        return port_id[:8]

    def check(self, ports: Mapping[str, Port]) -> None: ...

    def plug(self, requests: Sequence[PortRequest]) -> list[Nic]:
        held = set(self._world.taps.values())
        assert held.isdisjoint(one.port.mac_address for one in requests), "its tap is in use"
        self._world.touch("plug", lambda: self._world.ports.update(one.port.id for one in requests))
        return [Nic(name=one.name, mac_address=one.port.mac_address, mtu=1500, tap_fds=()) for one in requests]

    def unplug(self, port_ids: Sequence[str]) -> None:
        self._world.touch("unplug", lambda: self._world.ports.difference_update(port_ids))

    def inspect(self) -> list[PluggedPort]:
        return [
            PluggedPort(port_id=one, instance_uuid=UUID, interface="tap", bridge="br-int", ofport=1, error=None)
            for one in self._world.ports
        ]

    def foreign(self) -> set[str]:
        return {f"port {one}" for one in self._world.foreign}

    def close(self) -> None: ...


class FakeServedDisks:
    """Keeps `compute_agent.block.open_disks.OpenDisks` over the world, in a block server."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.copies = FakeCopies(world)
        self.layers = FakeLayers(world)

    def set_disk_qos(self, name: str, qos: DiskQos | None) -> None:
        def effect() -> None:
            self._world.served.add(name)
            self._world.plugged[name] = qos

        self._world.touch("limit", effect)


class FakeStorage:
    """Keeps `compute_agent.storage.contract.DiskDriver` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.copies = FakeCopyStore(world)
        self.layers = FakeLayerStore(world)
        self.moves = FakeMoves(world)

    def check(self, instance: Instance) -> None: ...

    def check_device(self, field: str, device: BlockDevice) -> None: ...

    def create(self, instance: Instance, progress: Callable[[int], None]) -> None:
        self._world.touch("create", lambda: self._create(instance.uuid))

    def _create(self, instance_uuid: str) -> None:
        moving = self._world.moving
        self._world.disks.add(instance_uuid)
        if moving.shared is not None and not moving.is_elsewhere:
            moving.shared.owner = self._world

    def connect(self, instance: Instance, *, vhost_user: bool) -> Sequence[Disk]:
        assert instance.uuid in self._world.disks
        assert vhost_user is (self._world.hypervisor == "vmm")
        self._world.connections += 1
        moving = self._world.moving
        if moving.shared is not None and not moving.is_elsewhere:
            moving.shared.noted = self._world
        return []

    def is_cut_off(self, instance: Instance, *, vhost_user: bool) -> bool:
        return False

    def disconnect(self, instance_uuid: str) -> None:
        self._world.connected.discard(instance_uuid)
        moving = self._world.moving
        moving.close_disks()
        if moving.shared is not None and not moving.is_elsewhere:
            moving.shared.noted = None

    def create_disk(self, instance: Instance, device: BlockDevice, progress: Callable[[int], None]) -> None:
        self._world.touch("make disk", lambda: self._world.volumes.add(str(device.volume_id)))

    def delete_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        self._world.touch("delete disk", lambda: self._world.volumes.discard(str(device.volume_id)))

    def connect_disk(self, instance: Instance, device: BlockDevice, *, vhost_user: bool) -> Disk:
        assert not (vhost_user and self._world.hypervisor == "qemu")
        if device.volume_id is not None:
            self._world.touch("connect disk", lambda: self._world.connected.add(instance.uuid))
        source = FileSource(path=Path("/dev/null"), format="raw", layer=(device.layers or [None])[-1])
        return Disk(name=str(device.device_name), source=source, serial=str(device.volume_id))

    def disconnect_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        if device.volume_id is not None:
            self._world.touch("disconnect disk", lambda: self._world.connected.discard(instance_uuid))

    def grow_disk(self, instance: Instance, device: BlockDevice, size: int, *, running: bool) -> Disk | None:
        self._world.touch("grow", lambda: self._world.sizes.update({str(device.device_name): size}))
        return None

    def grow_served_disk(self, instance: Instance, device: BlockDevice, size: int) -> None:
        self._world.touch("grow", lambda: self._world.served.add(str(device.device_name)))

    def find_served_disks(self, instance: Instance) -> FakeServedDisks | None:
        return FakeServedDisks(self._world) if self._world.serving and instance.uuid in self._world.guests else None

    def boot_files(self, instance: Instance) -> BootFiles | None:
        return None

    def delete(self, instance_uuid: str) -> None:
        self._world.touch("delete", lambda: self._delete(instance_uuid))

    def _delete(self, instance_uuid: str) -> None:
        moving = self._world.moving
        self._world.disks.discard(instance_uuid)
        if moving.shared is not None and not moving.is_elsewhere:
            moving.shared.is_removed = True
        moving.is_elsewhere = False
        moving.files_came, moving.files_taken = set(), set()
        self._world.layering = Layering()

    def inspect(self) -> set[str]:
        return set(self._world.disks)

    def foreign(self) -> set[str]:
        return {f"file {one}" for one in self._world.foreign}

    def close(self) -> None: ...

    def capacity(self) -> Mapping[str, Mapping[str, int]]:
        return {}

    def list_images(self) -> list[CachedImage]:
        return []

    def prune_images(self) -> list[CachedImage]:
        return []


def no_peers(host: str) -> Peer:
    """For agents that are alone."""
    raise AssertionError(f"{host} was not to be asked")


class Agent:
    """One life of the agent, without threads: from its start to its end or its murder."""

    def __init__(self, world: World, peers: Peers = no_peers, host: str = "node1") -> None:
        settings = AgentSettings(
            host=host,
            state_dir=world.directory,
            shutdown_timeout=60.0 if world.obedient else 0.01,
            migration=MigrationSettings(
                address="127.0.0.1",
                prepare_timeout=60.0,
                timeout=world.moving.timeout,
                on_timeout=world.moving.on_timeout,
            ),
        )
        self.journal = Journal(world.directory / "journal.sqlite")
        self.node = Node(
            settings=settings,
            journal=self.journal,
            hypervisor=FakeHypervisor(world),
            network=FakeNetwork(world),
            storage=FakeStorage(world),
            peers=peers,
            turns=Turns(self.journal, settings.migration.max_concurrent, nullcontext),
            boot_id=world.boot_id,
        )
        self._announcer = Announcer(host, self.journal, lambda: None)

    def carry_out(self, request: Request) -> None:
        """What the manager does with an accepted request."""
        accepted = self.journal.operation(request.request_id)
        row = self.journal.instance(request.instance_uuid)
        Execution(self.node, self._announcer, accepted, row, Work(self.node, request, row.record)).run()

    def recover(self) -> None:
        """What an agent does at its start."""
        for operation in self.journal.unfinished():
            self.carry_out(operation.request)

    def events(self) -> list[str]:
        """What the controller would be told, oldest first."""
        return [notification.event_type for _, notification in self.journal.waiting_notifications(1000)]


def fresh_id() -> str:
    """A request id."""
    return f"{time.monotonic_ns():08x}-0000-4000-8000-000000000000"[-36:]
