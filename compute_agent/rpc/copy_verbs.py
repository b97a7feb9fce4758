"""What a controller can have done about copies of disks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.view import Accepted
from compute_agent.instance.wire import Backend
from compute_agent.rpc.asking import Asking


class BackupChoices(TypedDict, total=False):
    """What may be said about a backup."""

    disks: Sequence[str] | None
    """Default: all."""
    parent: str | None
    """Only what was written since that backup."""
    target: str | None
    """Not to files of the node, but to ``rbd`` or ``nbd://HOST:PORT/PREFIX``."""


class CopyVerbs(Asking):
    """Copies are made as changes are; the rest is done when it is answered."""

    def snapshot_instance(
        self, instance_uuid: str, image_id: str, request_id: str | None = None, *, backend: Backend | None = None
    ) -> Accepted:
        """Make an image of the root disk as it is now; `get_snapshot` tells of it when the operation is done."""
        return self._change(
            "snapshot_instance", request_id, instance_uuid=instance_uuid, image_id=image_id, backend=backend
        )

    def backup_instance(
        self,
        instance_uuid: str,
        backup_id: str,
        request_id: str | None = None,
        **choices: Unpack[BackupChoices],
    ) -> Accepted:
        """Copy disks as they all are now."""
        words = {"backup_id": backup_id, **choices}
        return self._change("backup_instance", request_id, instance_uuid=instance_uuid, **words)

    def restore_instance(self, instance_uuid: str, backup_id: str, request_id: str | None = None) -> Accepted:
        """Have the disks of a stopped instance be what they were when a backup was made."""
        return self._change("restore_instance", request_id, instance_uuid=instance_uuid, backup_id=backup_id)

    def get_snapshot(self, image_id: str) -> Snapshot:
        """An image that was made of an instance."""
        return self._ask(Snapshot, "get_snapshot", image_id=image_id)

    def delete_snapshot(self, image_id: str) -> None:
        """Remove such an image, if it is there."""
        self._ask(type(None), "delete_snapshot", image_id=image_id)

    def list_backups(self, instance_uuid: str | None = None) -> list[Backup]:
        """The backups on this host, oldest first; of one instance, where it is given."""
        return self._ask(list[Backup], "list_backups", instance_uuid=instance_uuid)

    def delete_backup(self, backup_id: str) -> None:
        """Remove a backup, if it is there; refused while another stands on it."""
        self._ask(type(None), "delete_backup", backup_id=backup_id)
