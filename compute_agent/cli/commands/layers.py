"""volume snapshot create, delete, revert: snapshots that stay beside a disk."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable, Sequence

from compute_agent.cli.arguments import uuid_text
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.instance.view import Accepted


class _OfDisk(InstanceChangeCommand):
    """About one disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the disk."""
        parser = super().get_parser(prog_name)
        parser.add_argument("disk", metavar="DISK", help="its name, such as disk0, or its volume id")
        return parser


class _OfSnapshot(_OfDisk):
    """About one that is there."""

    synopsis = "INSTANCE DISK SNAPSHOT"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the snapshot."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "snapshot_id", metavar="SNAPSHOT", type=uuid_text, help="its id, among the layers that `show` has"
        )
        return parser


class VolumeSnapshotCreate(_OfDisk):
    """Keep a disk as it is now: what is written from now on goes to a file beside it, also while the guest runs."""

    synopsis = "INSTANCE DISK"
    examples = "  computectl volume snapshot create web1 disk0 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the snapshot's id."""
        parser = super().get_parser(prog_name)
        new = str(uuid.uuid4())
        parser.add_argument("--snapshot-id", metavar="UUID", type=uuid_text, default=new, help="default: a new one")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Send the request and, if asked to, wait."""
        names, values = super().take_action(parsed_args)
        return (*names, "snapshot_id"), (*values, parsed_args.snapshot_id)

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.volume_snapshot_create(
            instance_uuid, parsed_args.disk, parsed_args.snapshot_id, request_id=parsed_args.request_id
        )


class VolumeSnapshotDelete(_OfSnapshot):
    """Let go of a snapshot: the disk keeps all that was written, and one file less; also while the guest runs."""

    examples = "  computectl volume snapshot delete web1 disk0 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4 --wait"

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.volume_snapshot_delete(
            instance_uuid, parsed_args.disk, parsed_args.snapshot_id, request_id=parsed_args.request_id
        )


class VolumeSnapshotRevert(_OfSnapshot):
    """Have a stopped instance's disk be what it was at its newest snapshot; what was written since is lost."""

    examples = "  computectl volume snapshot revert web1 disk0 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4 --wait"

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.volume_snapshot_revert(
            instance_uuid, parsed_args.disk, parsed_args.snapshot_id, request_id=parsed_args.request_id
        )
