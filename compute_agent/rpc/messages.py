"""The messages of RPC 1.0: one type for each verb's arguments.

A type's name is the verb's in camel case; `VERBS` is the whole interface. Exchange ``compute_agent``,
topic ``compute``, server = host name. Verbs that change something answer `Accepted` as soon as the
request is durable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.model import MOST_DISKS, Instance
from compute_agent.instance.wire import END, Backend, Uuid

RPC_VERSION = "1.0"
TOPIC = "compute"
EXCHANGE = "compute_agent"

DiskReference = Annotated[str, Meta(min_length=1, max_length=36, description="its device_name or volume_id")]
Seconds = Annotated[float, Meta(ge=0, le=86400, description="seconds")]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keyword arguments of one call."""


class Change(Message, frozen=True):
    """A request that changes something: repeated with the same id it gets the same answer and starts nothing."""

    request_id: Uuid


class _InstanceChange(Change, frozen=True):
    instance_uuid: Uuid


class BuildAndRunInstance(Change, frozen=True):
    """Create an instance and start it."""

    instance: Instance


class StartInstance(_InstanceChange, frozen=True):
    """Start a stopped instance."""


class StopInstance(_InstanceChange, frozen=True):
    """Ask the guest to shut down; force it off after `timeout` (default: the agent's ``shutdown_timeout``)."""

    timeout: Seconds | None = None


class RebootInstance(_InstanceChange, frozen=True):
    """SOFT asks the guest to shut down, and resets it after `timeout`; HARD makes its process anew."""

    reboot_type: Literal["SOFT", "HARD"] = "SOFT"
    timeout: Seconds | None = None


class PauseInstance(_InstanceChange, frozen=True):
    """Stop the vCPUs; memory stays."""


class UnpauseInstance(_InstanceChange, frozen=True):
    """Let the vCPUs run again."""


class SuspendInstance(_InstanceChange, frozen=True):
    """Save memory to disk and free it."""


class ResumeInstance(_InstanceChange, frozen=True):
    """Go on where `suspend_instance` left off."""


class TerminateInstance(_InstanceChange, frozen=True):
    """Stop the instance at once and remove all that belongs to it."""


class AttachVolume(_InstanceChange, frozen=True):
    """Give the instance one more disk: a volume, or an empty disk of its own that goes when it is detached."""

    block_device: BlockDevice


class DetachVolume(_InstanceChange, frozen=True):
    """Take a disk away again; fails, and may be repeated, where the guest does not let go of it."""

    volume_id: Uuid


class ExtendVolume(_InstanceChange, frozen=True):
    """Make a disk as large as this, while the guest runs too. A volume that its owner has grown is only looked at."""

    disk: DiskReference
    size_gb: Annotated[int, Meta(ge=1, le=64 * 1024, description="GiB")]


class SetDiskQos(_InstanceChange, frozen=True):
    """Limit a disk anew; null takes all limits away."""

    disk: DiskReference
    qos: DiskQos | None = None


class _DiskSnapshot(_InstanceChange, frozen=True):
    disk: DiskReference
    snapshot_id: Uuid


class VolumeSnapshotCreate(_DiskSnapshot, frozen=True):
    """From now on the guest writes to an overlay beside the disk; what was there before stays as it is, to be read."""


class VolumeSnapshotDelete(_DiskSnapshot, frozen=True):
    """Put what was written since a snapshot where it would be without it; the disk keeps all, the overlay goes."""


class VolumeSnapshotRevert(_DiskSnapshot, frozen=True):
    """Have a disk of a stopped instance be what it was at its newest snapshot, which stays."""


class SnapshotInstance(_InstanceChange, frozen=True):
    """Make an image of the root disk as it is now; its address and checksum come with the operation's end.

    In a file of this node (`backend` qcow2, the default), or where the disk is in Ceph also there (rbd): nothing of it
    goes through the node then, and disks can be cloned from it on every node of the cluster.
    """

    image_id: Uuid
    backend: Backend | None = None


class BackupInstance(_InstanceChange, frozen=True):
    """Copy disks (all: null) as they all are now; with `parent`, their last backup, only what was written since.

    They are copied to files of this node (`target` null), to images in Ceph beside the instances' own (rbd), or to an
    NBD server: ``nbd://HOST:PORT/PREFIX`` has an export PREFIXdisk0 for disk0, and so on, each as large as the disk
    and, with `parent`, with that backup's content. It lets several clients in, one after the other.
    """

    backup_id: Uuid
    target: Annotated[str, Meta(pattern="^(rbd|nbd://[^/\\s]+/[^\\s]+)" + END, max_length=512)] | None = None
    disks: Annotated[list[DiskReference], Meta(min_length=1, max_length=MOST_DISKS)] | None = None
    parent: Uuid | None = None


class RestoreInstance(_InstanceChange, frozen=True):
    """Have the disks of a stopped instance be what they were when a backup was made."""

    backup_id: Uuid


class GetInstance(Message, frozen=True):
    """One instance."""

    instance_uuid: Uuid


class ListInstances(Message, frozen=True):
    """Every instance of this host."""


class GetConsoleOutput(Message, frozen=True):
    """The end of the serial console's log."""

    instance_uuid: Uuid
    length: Annotated[int, Meta(ge=1, le=1024 * 1024, description="bytes")] = 64 * 1024


class GetSerialConsole(Message, frozen=True):
    """Where the serial console can be reached on the instance's host."""

    instance_uuid: Uuid


class GetDiagnostics(Message, frozen=True):
    """Counters of a running instance."""

    instance_uuid: Uuid


class GetSnapshot(Message, frozen=True):
    """An image that was made of an instance."""

    image_id: Uuid


class DeleteSnapshot(Message, frozen=True):
    """Remove such an image, if it is there; instances that were made from it stay.

    Refused of one in Ceph that disks stand on.
    """

    image_id: Uuid


class ListBackups(Message, frozen=True):
    """The backups on this host, oldest first; of one instance, where it is given."""

    instance_uuid: Uuid | None = None


class DeleteBackup(Message, frozen=True):
    """Remove a backup, if it is there; refused while another stands on it."""

    backup_id: Uuid


class GetHost(Message, frozen=True):
    """What this host is, has and can do."""


class ListImages(Message, frozen=True):
    """What the image cache of this host holds."""


class PruneImages(Message, frozen=True):
    """Remove from the image cache of this host what nobody uses; it is fetched again when it is needed."""


class GetOperation(Message, frozen=True):
    """One operation, by its request id."""

    request_id: Uuid


class ListOperations(Message, frozen=True):
    """The latest operations, newest first; of one instance, where it is given."""

    instance_uuid: Uuid | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


VERBS: dict[str, type[Message]] = {
    "build_and_run_instance": BuildAndRunInstance,
    "start_instance": StartInstance,
    "stop_instance": StopInstance,
    "reboot_instance": RebootInstance,
    "pause_instance": PauseInstance,
    "unpause_instance": UnpauseInstance,
    "suspend_instance": SuspendInstance,
    "resume_instance": ResumeInstance,
    "terminate_instance": TerminateInstance,
    "attach_volume": AttachVolume,
    "detach_volume": DetachVolume,
    "extend_volume": ExtendVolume,
    "set_disk_qos": SetDiskQos,
    "volume_snapshot_create": VolumeSnapshotCreate,
    "volume_snapshot_delete": VolumeSnapshotDelete,
    "volume_snapshot_revert": VolumeSnapshotRevert,
    "snapshot_instance": SnapshotInstance,
    "backup_instance": BackupInstance,
    "restore_instance": RestoreInstance,
    "get_instance": GetInstance,
    "list_instances": ListInstances,
    "get_console_output": GetConsoleOutput,
    "get_serial_console": GetSerialConsole,
    "get_diagnostics": GetDiagnostics,
    "get_snapshot": GetSnapshot,
    "delete_snapshot": DeleteSnapshot,
    "list_backups": ListBackups,
    "delete_backup": DeleteBackup,
    "get_host": GetHost,
    "list_images": ListImages,
    "prune_images": PruneImages,
    "get_operation": GetOperation,
    "list_operations": ListOperations,
}
