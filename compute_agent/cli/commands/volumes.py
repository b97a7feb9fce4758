"""volume attach, detach, extend, limit: disks of an instance that is there already."""

from __future__ import annotations

import argparse
import uuid
from typing import Any, TypeVar, get_args

import msgspec

from compute_agent.cli.arguments import key_value, positive, uuid_text
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.view import Accepted
from compute_agent.instance.wire import Backend, CacheMode, DiskBus

T = TypeVar("T")

_COMMAND = {"volume": "attach", "limits": "limit"}


class VolumeAttach(InstanceChangeCommand):
    """Give an instance one more disk, also while it runs."""

    examples = (
        "  computectl volume attach web1 --blank 20 --wait    # an empty disk that goes when it is detached\n"
        "  computectl volume attach web1 --rbd volumes/data --user cinder --secret 6f1c1f2e-… --wait\n"
        "  computectl volume attach web1 --file /srv/volumes/data.qcow2 --image-format qcow2 --wait"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With what the disk is, and how the guest gets it."""
        parser = super().get_parser(prog_name)
        kind = parser.add_mutually_exclusive_group(required=True)
        kind.add_argument("--blank", metavar="GB", type=positive, help="an empty disk of the instance's own")
        kind.add_argument("--rbd", metavar="POOL/IMAGE", help="a volume in Ceph")
        kind.add_argument("--file", metavar="PATH", help="a volume in a file, below one of the node's volume_dirs")
        parser.add_argument("--backend", choices=get_args(Backend), help="of an empty disk; default: the node's")
        parser.add_argument("--cluster", metavar="NAME", default="ceph", help="of a volume in Ceph; default: ceph")
        parser.add_argument("--user", metavar="NAME", help="Ceph's, without client.")
        parser.add_argument(
            "--secret", metavar="UUID", type=uuid_text, help="the node's secret that holds the user's key"
        )
        parser.add_argument("--image-format", choices=("qcow2", "raw"), help="of a volume in a file; never guessed")
        parser.add_argument("--read-only", action="store_true")
        parser.add_argument("--volume-id", metavar="UUID", type=uuid_text, help="names the disk; default: a new one")
        parser.add_argument("--bus", choices=get_args(DiskBus), default="virtio")
        parser.add_argument("--cache", choices=get_args(CacheMode))
        parser.add_argument(
            "--luks", metavar="UUID", type=uuid_text, help="the secret that opens the disk's LUKS container"
        )
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        device = block_device(parsed_args)
        return self.client.attach_volume(instance_uuid, device, request_id=parsed_args.request_id)


class VolumeDetach(InstanceChangeCommand):
    """Take a disk away from an instance; an empty disk that was attached goes with what is on it."""

    examples = "  computectl volume detach web1 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the volume."""
        parser = super().get_parser(prog_name)
        parser.add_argument("volume_id", metavar="VOLUME", type=uuid_text, help="its id, as `computectl show` has it")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.detach_volume(instance_uuid, parsed_args.volume_id, request_id=parsed_args.request_id)


class VolumeExtend(InstanceChangeCommand):
    """Make a disk larger, also while the guest runs."""

    examples = "  computectl volume extend web1 disk0 40 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the disk and its size."""
        parser = super().get_parser(prog_name)
        parser.add_argument("disk", metavar="DISK", help="its name, such as disk0, or its volume id")
        parser.add_argument("size_gb", metavar="GB", type=positive)
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.extend_volume(
            instance_uuid, parsed_args.disk, parsed_args.size_gb, request_id=parsed_args.request_id
        )


class VolumeLimit(InstanceChangeCommand):
    """Limit what a disk may do each second; without limits: let it do what it can."""

    examples = (
        "  computectl volume limit web1 disk0 total_iops_sec=500 total_iops_sec_max=2000 total_iops_sec_max_length=10\n"
        "  computectl volume limit web1 disk0"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the disk and its limits."""
        parser = super().get_parser(prog_name)
        parser.add_argument("disk", metavar="DISK", help="its name, such as disk0, or its volume id")
        names = ", ".join(DiskQos.__struct_fields__)
        parser.add_argument("limits", metavar="LIMIT=NUMBER", type=key_value, nargs="*", help=names)
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        limits = dict(parsed_args.limits)
        qos = _convert(limits, DiskQos, "limits") if limits else None
        return self.client.set_disk_qos(instance_uuid, parsed_args.disk, qos, request_id=parsed_args.request_id)


def block_device(arguments: argparse.Namespace) -> BlockDevice:
    """The disk that the command line describes; the agent checks the rest.

    :raises Failure: it describes none.
    """
    description: dict[str, Any] = {
        "source_type": "blank" if arguments.blank else "volume",
        "volume_id": arguments.volume_id or str(uuid.uuid4()),
        "size_gb": arguments.blank,
        "backend": arguments.backend,
        "connection_info": _connection_info(arguments),
        "disk_bus": arguments.bus,
        "cache_mode": arguments.cache,
        "encryption": {"secret_uuid": arguments.luks} if arguments.luks else None,
    }
    return _convert(description, BlockDevice, "volume")


def _connection_info(arguments: argparse.Namespace) -> dict[str, Any] | None:
    access = {"access_mode": "ro" if arguments.read_only else "rw"}
    if arguments.rbd:
        data = {"name": arguments.rbd, "cluster_name": arguments.cluster}
        user = {"auth_username": arguments.user, "secret_uuid": arguments.secret}
        return {"driver_volume_type": "rbd", "data": data | user | access}
    if arguments.file:
        return {
            "driver_volume_type": "file",
            "data": {"path": arguments.file, "format": arguments.image_format} | access,
        }
    return None


def _convert(description: object, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(description, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Failure(f"{what}: {error}", f"computectl help volume {_COMMAND[what]}", ExitStatus.USAGE) from None
