"""What a controller asks for: an instance, its flavor, disks and ports.

These types are the wire format too (`compute_agent.rpc.messages` embeds them): msgspec checks types,
ranges and unknown fields while decoding, and makes the JSON Schema from the same annotations.
Names follow Nova (flavor, block device) and Neutron (port, vif_type, fixed_ips).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from compute_agent.instance.block_device import BlockDevice, SourceFile
from compute_agent.instance.wire import END, BridgeName, Hostname, MacAddress, Model, NicName, OneLine, Uuid

MOST_DISKS, MOST_PORTS = 24, 16
"""That an instance can have."""


class Flavor(Model, frozen=True):
    """The size of an instance."""

    vcpus: Annotated[int, Meta(ge=1, le=255)]
    memory_mb: Annotated[int, Meta(ge=8, le=16 * 1024 * 1024, description="MiB")]
    extra_specs: dict[str, str] = {}


class Subnet(Model, frozen=True):
    """Where a fixed IP belongs, as Neutron describes it."""

    cidr: Annotated[str, Meta(max_length=64)]
    gateway_ip: Annotated[str, Meta(max_length=64)] | None = None
    dns_nameservers: list[Annotated[str, Meta(max_length=64)]] = []


class FixedIp(Model, frozen=True):
    """An address that the guest is told to use."""

    ip_address: Annotated[str, Meta(max_length=64)]
    subnet: Subnet


class PortDetails(Model, frozen=True):
    """Neutron's ``binding:vif_details``, as far as this agent uses them."""

    bridge_name: BridgeName = "br-int"
    vlan: Annotated[int, Meta(ge=1, le=4094)] | None = None


class Port(Model, frozen=True):
    """One NIC of an instance: a Neutron port that was bound to this host."""

    id: Uuid
    mac_address: MacAddress
    device_name: NicName | None = None
    """What the NIC is called; the agent chooses the first name that is free where the order does not."""
    vif_type: Literal["ovs"] = "ovs"
    vnic_type: Literal["normal"] = "normal"
    details: PortDetails = PortDetails()
    mtu: Annotated[int, Meta(ge=68, le=65521, description="bytes")] = 1500
    fixed_ips: list[FixedIp] = []


class DirectBoot(Model, frozen=True):
    """Start this kernel instead of what the first disk's boot loader would start."""

    kernel: SourceFile
    """A bzImage, or an ELF file with a PVH entry; `vmm` takes Linux's ELF file without one as well."""
    ramdisk: SourceFile | None = None
    command_line: OneLine = ""


class Instance(Model, frozen=True):
    """A virtual machine as its owner ordered it."""

    uuid: Uuid
    name: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[^\\x00-\\x1f\\x7f]+" + END)]
    flavor: Flavor
    hostname: Hostname | None = None
    block_devices: Annotated[list[BlockDevice], Meta(max_length=MOST_DISKS)] = []
    ports: Annotated[list[Port], Meta(max_length=MOST_PORTS)] = []
    direct_boot: DirectBoot | None = None
    config_drive: bool = True
    user_data: Annotated[str, Meta(max_length=128 * 1024, description="base64")] | None = None
    ssh_keys: Annotated[list[OneLine], Meta(max_length=64)] = []
    metadata: dict[str, str] = {}
