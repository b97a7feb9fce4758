"""snapshot create, show, delete; backup create, list, restore, delete."""

from __future__ import annotations

import argparse
import uuid
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import get_args

from cliff.show import ShowOne

from compute_agent.cli.arguments import uuid_text
from compute_agent.cli.commands.base import ComputeCommand, ListCommand
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.cli.failure import Failure
from compute_agent.cli.views import BACKUP_COLUMNS, backup_row, snapshot_fields
from compute_agent.instance.view import Accepted
from compute_agent.instance.wire import Backend


class _CopyCreate(InstanceChangeCommand):
    """Makes a copy that has an id of its own, which is shown too."""

    id_name = ""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the copy's id."""
        parser = super().get_parser(prog_name)
        option = f"--{self.id_name.replace('_', '-')}"
        new = str(uuid.uuid4())
        parser.add_argument(
            option, dest="copy_id", metavar="UUID", type=uuid_text, default=new, help="default: a new one"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Send the request and, if asked to, wait."""
        names, values = super().take_action(parsed_args)
        return (*names, self.id_name), (*values, parsed_args.copy_id)


class SnapshotCreate(_CopyCreate):
    """Make an image of an instance's root disk, also while it runs; file systems are frozen by a guest agent."""

    id_name = "image_id"
    examples = (
        "  computectl snapshot create web1 --wait\n"
        "  computectl snapshot create web1 --backend rbd --wait    # in Ceph, where its disk is\n"
        "  computectl snapshot show $(computectl snapshot create web1 --wait -f value -c image_id)"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With where it is made."""
        parser = super().get_parser(prog_name)
        choices = get_args(Backend)
        parser.add_argument("--backend", choices=choices, help="a file of the node (default), or an image in Ceph")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.snapshot_instance(
            instance_uuid, parsed_args.copy_id, request_id=parsed_args.request_id, backend=parsed_args.backend
        )


class BackupCreate(_CopyCreate):
    """Copy disks of an instance as they all are now, also while it runs."""

    id_name = "backup_id"
    examples = (
        "  computectl backup create web1 --wait\n"
        "  computectl backup create web1 --incremental --wait    # what was written since the last one\n"
        "  computectl backup create web1 --target rbd --wait      # to Ceph\n"
        "  computectl backup create web1 --target nbd://backup1:10809/web1- --wait    # export web1-disk0, ..."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With what is to be copied."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--disk", metavar="DISK", action="append", help="only this one, such as disk0; repeatable")
        parser.add_argument("--incremental", action="store_true", help="only what was written since the last backup")
        parser.add_argument(
            "--target", metavar="TARGET", help="rbd, or nbd://HOST:PORT/PREFIX (default: files of the node)"
        )
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        parent = self._last_backup(instance_uuid) if parsed_args.incremental else None
        return self.client.backup_instance(
            instance_uuid,
            parsed_args.copy_id,
            request_id=parsed_args.request_id,
            disks=parsed_args.disk,
            parent=parent,
            target=parsed_args.target,
        )

    def _last_backup(self, instance_uuid: str) -> str:
        backups = self.client.list_backups(instance_uuid)
        if not backups:
            raise Failure(f"{instance_uuid} has no backup yet", f"computectl backup create {instance_uuid}")
        return backups[-1].backup_id


class BackupRestore(InstanceChangeCommand):
    """Have the disks of a stopped instance be what they were when a backup was made; what they hold now is lost."""

    synopsis = "INSTANCE BACKUP"
    examples = "  computectl backup restore web1 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the backup."""
        parser = super().get_parser(prog_name)
        parser.add_argument("backup_id", metavar="BACKUP", type=uuid_text, help="its id, as `backup list` has it")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.restore_instance(instance_uuid, parsed_args.backup_id, request_id=parsed_args.request_id)


class BackupList(ListCommand):
    """List the backups on a host, oldest first."""

    examples = "  computectl backup list\n  computectl backup list --instance web1"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --instance."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--instance", metavar="INSTANCE", help="only its; one that is gone by its uuid")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        instance_uuid = self.instance_uuid(parsed_args) if parsed_args.instance else None
        return BACKUP_COLUMNS, [backup_row(backup) for backup in self.client.list_backups(instance_uuid)]


class SnapshotShow(ComputeCommand, ShowOne):
    """Show an image that was made of an instance: where it is, and its checksum."""

    synopsis = "IMAGE_ID"
    examples = "  computectl snapshot show 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the image's id."""
        parser = super().get_parser(prog_name)
        parser.add_argument("image_id", metavar="IMAGE_ID", type=uuid_text, help="as `snapshot create` told it")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return self.dict2columns(snapshot_fields(self.client.get_snapshot(parsed_args.image_id)))


class _CopyDelete(ComputeCommand):
    """Removes a copy at once."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the copy's id."""
        parser = super().get_parser(prog_name)
        parser.add_argument("copy_id", metavar=self.synopsis, type=uuid_text)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Tell the host."""
        self.delete(parsed_args.copy_id)

    @abstractmethod
    def delete(self, copy_id: str) -> None:
        """Have it removed."""


class SnapshotDelete(_CopyDelete):
    """Delete an image that was made of an instance; instances that were made from it stay."""

    synopsis = "IMAGE_ID"
    examples = "  computectl snapshot delete 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"

    def delete(self, copy_id: str) -> None:
        """Have it removed."""
        self.client.delete_snapshot(copy_id)


class BackupDelete(_CopyDelete):
    """Delete a backup that no other stands on."""

    synopsis = "BACKUP"
    examples = "  computectl backup delete 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"

    def delete(self, copy_id: str) -> None:
        """Have it removed."""
        self.client.delete_backup(copy_id)
