"""What a controller can have done with an instance's disks."""

from __future__ import annotations

from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.view import Accepted
from compute_agent.rpc.asking import Asking


class DiskVerbs(Asking):
    """Changes: answered as soon as they are durable."""

    def attach_volume(self, instance_uuid: str, block_device: BlockDevice, request_id: str | None = None) -> Accepted:
        """Give the instance one more disk; `block_device` names it by its ``volume_id``."""
        return self._change("attach_volume", request_id, instance_uuid=instance_uuid, block_device=block_device)

    def detach_volume(self, instance_uuid: str, volume_id: str, request_id: str | None = None) -> Accepted:
        """Take a disk away again."""
        return self._change("detach_volume", request_id, instance_uuid=instance_uuid, volume_id=volume_id)

    def extend_volume(self, instance_uuid: str, disk: str, size_gb: int, request_id: str | None = None) -> Accepted:
        """Make a disk, named by its ``device_name`` or ``volume_id``, as large as `size_gb` GiB."""
        return self._change("extend_volume", request_id, instance_uuid=instance_uuid, disk=disk, size_gb=size_gb)

    def set_disk_qos(
        self, instance_uuid: str, disk: str, qos: DiskQos | None, request_id: str | None = None
    ) -> Accepted:
        """Limit a disk anew; None takes all limits away."""
        return self._change("set_disk_qos", request_id, instance_uuid=instance_uuid, disk=disk, qos=qos)

    def volume_snapshot_create(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """From now on the guest writes to an overlay beside the disk, which stays as it was."""
        return self._change_layers("create", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_delete(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """Have the disk keep its content without the overlay of that snapshot."""
        return self._change_layers("delete", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_revert(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """Have a stopped instance's disk be what it was at its newest snapshot."""
        return self._change_layers("revert", instance_uuid, disk, snapshot_id, request_id)

    def _change_layers(
        self, what: str, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None
    ) -> Accepted:
        verb = f"volume_snapshot_{what}"
        return self._change(verb, request_id, instance_uuid=instance_uuid, disk=disk, snapshot_id=snapshot_id)
