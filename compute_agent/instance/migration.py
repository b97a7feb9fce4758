"""What two hosts tell each other about a guest that moves between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, structs

from compute_agent.instance.machine import Machine
from compute_agent.instance.model import MOST_PORTS, Instance, PortDetails
from compute_agent.instance.wire import END, Model, Uuid

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
HostName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$(?!\\n)")]
Address = Annotated[
    str, Meta(pattern="^([0-9.]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?)" + END, max_length=64, description="IPv4 or IPv6")
]
Version = Annotated[str, Meta(pattern="^[0-9]{1,4}([.][0-9]{1,4}){0,5}" + END)]


class HostFacts(Model, frozen=True):
    """What a guest's state depends on beside its machine."""

    hypervisor_version: Version
    accelerator: Literal["kvm", "tcg"]
    cpu_vendor: str
    cpu_flags: list[str]
    """As the kernel abbreviates them."""
    cpu_features: tuple[str, ...] = ()
    """What the guest sees of them, as QEMU names it; empty: all."""
    tsc_khz: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    """How fast the time stamp counter runs that a guest of vmm reads; null: of qemu, which sees to it."""


class PortBinding(Model, frozen=True):
    """How Neutron has bound a port to the host that its instance moves to (the port's second binding)."""

    port_id: Uuid
    vif_type: Literal["ovs"] = "ovs"
    details: PortDetails = PortDetails()


PortBindings = Annotated[list[PortBinding], Meta(max_length=MOST_PORTS)]


def rebound(instance: Instance, bindings: Sequence[PortBinding]) -> Instance:
    """With its ports as they are bound there; those of which nothing is said are bound as here."""
    details = {one.port_id: one.details for one in bindings}
    ports = [structs.replace(port, details=details.get(port.id, port.details)) for port in instance.ports]
    return structs.replace(instance, ports=ports)


def encrypted_disks(instance: Instance, disks: Sequence[str]) -> list[str]:
    """Those of these disks that hold a LUKS container."""
    return [str(one.device_name) for one in instance.block_devices if one.encryption and one.device_name in disks]


class Mover(Model, frozen=True):
    """A guest that wants to move, and where it comes from."""

    instance: Instance
    machine: Machine
    epoch: Annotated[int, Meta(ge=0, le=10**9)]
    source: HostName
    address: Address
    """That it will connect from."""
    mirrored: list[str]
    """Its disks that are to be copied, by name."""
    facts: HostFacts | None = None
    """None: it is stopped, and nothing but its disks moves."""
    post_copy: bool = False
    """It may go on before all of its memory has come, which then comes as it is needed."""
    proof: Uuid | None = None
    """Volumes in files have a file beside them whose name ends so: who finds that there has the same volume. None:
    nobody can know it."""

    @property
    def is_stopped(self) -> bool:
        """It does not run while it moves."""
        return self.facts is None

    @property
    def encrypted(self) -> list[str]:
        """Those of its disks that are copied above their encryption: what is read on the way is not encrypted by it."""
        return [] if self.is_stopped else encrypted_disks(self.instance, self.mirrored)

    @property
    def has_lower_files(self) -> bool:
        """Some of what it has on disks that are copied it only reads."""
        return any(device.layers for device in self.instance.block_devices if device.device_name in self.mirrored)


class Evacuee(Model, frozen=True):
    """An instance whose host is dead."""

    instance: Instance
    machine: Machine
    epoch: Annotated[int, Meta(ge=1, le=10**9)]
    """Above the one that it had there."""
    source: HostName
    """The dead host."""


class Incoming(Model, frozen=True):
    """The migration that a guest's memory comes in by."""

    migration: Uuid
    """The id of the request for it, at the host that it comes from."""
    source: HostName
    address: Address
    """That it will connect from."""
    mirrored: list[str]
    """Its disks that are copied, by name."""
    is_stopped: bool = False
    """It has no memory."""


class Gate(Model, frozen=True):
    """Where a guest may come in: one connection for its memory, and one for each of its disks.

    One that is stopped has one connection for all of its disks.
    """

    address: Address
    memory_port: PortNumber | None = None
    """None: it has no memory."""
    disks_port: PortNumber | None = None
    """None: no disk is to be copied."""
    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$(?!\\n)")] | None = None
    """That all of it is encrypted with; None: nothing is."""
    certificate: Annotated[str, Meta(max_length=4096)] | None = None
    """Of whoever takes the disks of one that is stopped (PEM): who connects knows by it whom he has reached, and says
    the key."""
