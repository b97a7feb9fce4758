"""A disk as a controller orders it: of the instance's own, or a volume that exists without it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from compute_agent.instance.wire import (
    END,
    Backend,
    BurstLength,
    CacheMode,
    Checksum,
    ChecksumOrNone,
    DetectZeroes,
    DeviceName,
    DiskBus,
    Model,
    Rate,
    Url,
    Uuid,
)


class SourceFile(Model, frozen=True):
    """A file that the node fetches once and keeps: named by where it is and what is in it."""

    url: Url
    checksum: Checksum


class Image(SourceFile, frozen=True, kw_only=True):
    """A disk image. Its format is declared, never guessed."""

    checksum: ChecksumOrNone = ""
    """Not needed of an image in Ceph, which this node does not read."""
    disk_format: Literal["qcow2", "raw"]
    properties: dict[str, str] = field(default_factory=dict)
    """As Glance has them. ``hw_hypervisor`` is acted upon: ``qemu`` or ``vmm``; others are left alone."""


class DiskQos(Model, frozen=True):
    """Limits of one disk, or of all disks of a group together. Names as in Cinder's front-end QoS specs.

    A ``…_max`` is what a burst may reach for as long as its ``…_max_length`` seconds; no limit is 0.
    """

    total_bytes_sec: Rate = 0
    read_bytes_sec: Rate = 0
    write_bytes_sec: Rate = 0
    total_iops_sec: Rate = 0
    read_iops_sec: Rate = 0
    write_iops_sec: Rate = 0
    total_bytes_sec_max: Rate = 0
    read_bytes_sec_max: Rate = 0
    write_bytes_sec_max: Rate = 0
    total_iops_sec_max: Rate = 0
    read_iops_sec_max: Rate = 0
    write_iops_sec_max: Rate = 0
    total_bytes_sec_max_length: BurstLength = 1
    read_bytes_sec_max_length: BurstLength = 1
    write_bytes_sec_max_length: BurstLength = 1
    total_iops_sec_max_length: BurstLength = 1
    read_iops_sec_max_length: BurstLength = 1
    write_iops_sec_max_length: BurstLength = 1
    size_iops_sec: Rate = 0
    """Bytes from which on a request counts as several."""
    group_name: Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_.-]{0,30}" + END)] | None = None
    """Disks of the instance with the same name share the limits."""


class Encryption(Model, frozen=True):
    """The disk holds a LUKS container; its passphrase is a secret of the node."""

    secret_uuid: Uuid
    provider: Literal["luks"] = "luks"


class RbdVolume(Struct, frozen=True, kw_only=True):
    """Cinder's ``data`` of an RBD volume; what is not named here is ignored, and so never kept.

    Monitors' addresses (``hosts``, ``ports``) are such: they come from the node's Ceph configuration each time.
    """

    name: Annotated[str, Meta(pattern="^[^/@\\s]+/[^/@\\s]+" + END, max_length=255, description="pool/image")]
    cluster_name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}" + END)] = "ceph"
    auth_enabled: bool = True
    auth_username: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}" + END)] | None = None
    secret_uuid: Uuid | None = None
    access_mode: Literal["rw", "ro"] = "rw"


class FileVolume(Struct, frozen=True, kw_only=True):
    """A volume that is a file on this node, or on a file system that hosts share."""

    path: Annotated[str, Meta(pattern="^/[^\\x00-\\x1f\\x7f]+" + END, max_length=1024)]
    format: Literal["qcow2", "raw"]
    access_mode: Literal["rw", "ro"] = "rw"


class RbdConnection(Struct, frozen=True, kw_only=True, tag_field="driver_volume_type", tag="rbd"):
    """Cinder's ``connection_info`` of an RBD volume."""

    data: RbdVolume


class FileConnection(Struct, frozen=True, kw_only=True, tag_field="driver_volume_type", tag="file"):
    """How a volume in a file is reached."""

    data: FileVolume


MOST_LAYERS = 16
"""That a disk can have: each one that a block is not in costs a look at the next."""


class BlockDevice(Model, frozen=True):
    """One disk of an instance: of its own, with an image's content or empty; or a volume that exists without it."""

    source_type: Literal["image", "blank", "volume"]
    device_name: DeviceName | None = None
    """What the disk is called; the agent chooses the first name that is free where the order does not."""
    image: Image | None = None
    backend: Backend | None = None
    """Where a disk of the instance's own is made, if not where the node makes them."""
    size_gb: Annotated[int, Meta(ge=1, le=64 * 1024, description="GiB")] | None = None
    volume_id: Uuid | None = None
    connection_info: RbdConnection | FileConnection | None = None
    boot_index: Annotated[int, Meta(ge=0, le=99)] | None = None
    disk_bus: DiskBus = "virtio"
    cache_mode: CacheMode | None = None
    """The node's, where it is not said."""
    discard: bool = True
    detect_zeroes: DetectZeroes = "off"
    queues: Annotated[int, Meta(ge=1, le=255)] | None = None
    qos: DiskQos | None = None
    encryption: Encryption | None = None
    layers: Annotated[tuple[Uuid, ...], Meta(max_length=MOST_LAYERS)] = ()
    """Not to be ordered: ids of the disk's snapshots, oldest first. Each has an overlay with what was written since."""
