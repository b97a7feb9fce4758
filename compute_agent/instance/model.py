"""What a controller asks for: an instance, its flavor, disks and ports.

These types are the wire format too (`compute_agent.rpc.messages` embeds them): msgspec checks types,
ranges and unknown fields while decoding, and makes the JSON Schema from the same annotations.
Names follow Nova (flavor, block device) and Neutron (port, vif_type, fixed_ips).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

_END = "$(?!\\n)"
"""The very end: Python's ``$`` alone also matches before a last newline."""

UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" + _END

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="lower case, with hyphens")]
MacAddress = Annotated[str, Meta(pattern="^[0-9a-f]{2}(:[0-9a-f]{2}){5}" + _END)]
BridgeName = Annotated[str, Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}" + _END)]
Hostname = Annotated[str, Meta(pattern="^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?" + _END)]
Checksum = Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})" + _END)]
Url = Annotated[str, Meta(pattern="^(file:///|https?://)[^\\s]+" + _END, max_length=4096)]
OneLine = Annotated[str, Meta(pattern="^[^\\x00-\\x1f\\x7f]*" + _END, max_length=2048)]


class _Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value: compared by content, never changed in place."""


class Flavor(_Model, frozen=True):
    """The size of an instance."""

    vcpus: Annotated[int, Meta(ge=1, le=255)]
    memory_mb: Annotated[int, Meta(ge=8, le=16 * 1024 * 1024, description="MiB")]
    extra_specs: dict[str, str] = {}


class SourceFile(_Model, frozen=True):
    """A file that the node fetches once and keeps: named by where it is and what is in it."""

    url: Url
    checksum: Checksum


class Image(SourceFile, frozen=True):
    """A disk image. Its format is declared, never guessed."""

    disk_format: Literal["qcow2", "raw"]


class BlockDevice(_Model, frozen=True):
    """One disk of an instance, in the order of the list: the first is ``disk0``, the next ``disk1``."""

    source_type: Literal["image", "blank"]
    image: Image | None = None
    size_gb: Annotated[int, Meta(ge=1, le=64 * 1024, description="GiB")] | None = None
    boot_index: Annotated[int, Meta(ge=0, le=99)] | None = None


class Subnet(_Model, frozen=True):
    """Where a fixed IP belongs, as Neutron describes it."""

    cidr: Annotated[str, Meta(max_length=64)]
    gateway_ip: Annotated[str, Meta(max_length=64)] | None = None
    dns_nameservers: list[Annotated[str, Meta(max_length=64)]] = []


class FixedIp(_Model, frozen=True):
    """An address that the guest is told to use."""

    ip_address: Annotated[str, Meta(max_length=64)]
    subnet: Subnet


class PortDetails(_Model, frozen=True):
    """Neutron's ``binding:vif_details``, as far as this agent uses them."""

    bridge_name: BridgeName = "br-int"
    vlan: Annotated[int, Meta(ge=1, le=4094)] | None = None


class Port(_Model, frozen=True):
    """One NIC of an instance: a Neutron port that was bound to this host."""

    id: Uuid
    mac_address: MacAddress
    vif_type: Literal["ovs"] = "ovs"
    vnic_type: Literal["normal"] = "normal"
    details: PortDetails = PortDetails()
    mtu: Annotated[int, Meta(ge=68, le=65521, description="bytes")] = 1500
    fixed_ips: list[FixedIp] = []


class DirectBoot(_Model, frozen=True):
    """Start this kernel instead of what the first disk's boot loader would start."""

    kernel: SourceFile
    ramdisk: SourceFile | None = None
    command_line: OneLine = ""


class Instance(_Model, frozen=True):
    """A virtual machine as its owner ordered it."""

    uuid: Uuid
    name: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[^\\x00-\\x1f\\x7f]+" + _END)]
    flavor: Flavor
    hostname: Hostname | None = None
    block_devices: Annotated[list[BlockDevice], Meta(max_length=24)] = []
    ports: Annotated[list[Port], Meta(max_length=16)] = []
    direct_boot: DirectBoot | None = None
    config_drive: bool = True
    user_data: Annotated[str, Meta(max_length=128 * 1024, description="base64")] | None = None
    ssh_keys: Annotated[list[OneLine], Meta(max_length=64)] = []
    metadata: dict[str, str] = {}
