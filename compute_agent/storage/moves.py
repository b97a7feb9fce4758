"""Disks of guests that move between hosts: copied where one host has them, passed on where both can reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from compute_agent.errors import MigrationRefused
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.migration import Mover
from compute_agent.instance.model import Instance
from compute_agent.storage.files import storage_errors
from compute_agent.storage.moving.files import MovingFiles
from compute_agent.storage.rbd.disks import RbdDisks
from compute_agent.storage.rbd.evacuation import EvacuatedImage
from compute_agent.storage.server.served_moves import ServedMoves
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.source import Coming, Place, SharedKind, elsewhere_mark, is_read_only

PlaceOf = Callable[[str, str], Place]
"""Given an instance's uuid and a disk's name."""


SharedKindOf = Callable[[BlockDevice], SharedKind | None]
"""None: of disks that exist on one host only."""


class NodeMoves:
    """The `compute_agent.storage.contract.DiskMoves` of this node."""

    def __init__(
        self,
        rbd: RbdDisks,
        shared_kind_of: SharedKindOf,
        place_of: PlaceOf,
        files: MovingFiles,
        servers: BlockServers,
    ) -> None:
        self.files = files
        self._servers = servers
        self._rbd = rbd
        self._shared_kind_of = shared_kind_of
        self._place_of = place_of

    def served(self, instance_uuid: str) -> ServedMoves | None:
        """See the contract."""
        return self._servers.find_served_moves(instance_uuid)

    def mirrored(self, instance: Instance) -> Sequence[str]:
        """See the contract."""
        return [str(one.device_name) for one in instance.block_devices if self._shared_kind_of(one) is None]

    def leave_proof(self, instance: Instance, proof: str, *, runs: bool) -> None:
        """See the contract."""
        for kind, place, device in self._shared(instance):
            kind.leave_proof(place, device, proof, runs=runs)

    def take_proof_back(self, instance: Instance, proof: str) -> None:
        """See the contract."""
        for kind, place, device in self._shared(instance):
            kind.take_proof_back(place, device, proof)

    def require_shared(self, mover: Mover) -> None:
        """See the contract."""
        coming = Coming(
            source=mover.source,
            in_use=not mover.is_stopped,
            is_served=mover.machine.takes_vhost_user,
            proof=mover.proof,
        )
        for kind, place, device in self._shared(mover.instance):
            kind.require_same(place, device, coming)

    def disown(self, instance_uuid: str) -> None:
        """See the contract."""
        directory = self._place_of(instance_uuid, "").directory
        with storage_errors(directory):
            directory.mkdir(mode=0o700, exist_ok=True)
            elsewhere_mark(directory).touch()

    def take_over(self, instance: Instance) -> None:
        """See the contract. The mark goes first: without a lock nothing is written, with the mark nothing removed."""
        directory = self._place_of(instance.uuid, "").directory
        with storage_errors(directory):
            elsewhere_mark(directory).unlink(missing_ok=True)
        for kind, place, device in self._shared(instance):
            kind.take_over(place, device)

    def note_owner(self, instance: Instance, epoch: int) -> None:
        """See the contract."""
        for image in self._images(instance):
            image.note_owner(epoch)

    def check_evacuation(self, instance: Instance, source: str, epoch: int) -> None:
        """See the contract."""
        for device in instance.block_devices:
            if self._shared_kind_of(device) is not self._rbd:
                raise MigrationRefused(str(device.device_name), f"it exists on {source} only")
        images = list(self._images(instance))
        if not images:
            raise MigrationRefused("disks", f"it has none in Ceph, whose lock would keep {source} from running it")
        for image in images:
            image.check(source, epoch)

    def evacuate(self, instance: Instance, source: str, epoch: int) -> None:
        """See the contract. All are claimed before one of them could be removed with the instance."""
        for place, device in self._written_to(instance):
            self._rbd.evacuate(place, device, source, epoch)
        directory = self._place_of(instance.uuid, "").directory
        with storage_errors(directory):
            elsewhere_mark(directory).unlink(missing_ok=True)

    def is_lost(self, instance: Instance, epoch: int) -> bool:
        """See the contract."""
        return any(image.is_lost(epoch) for image in self._images(instance))

    def without_foreign_images(self, instance: Instance) -> Instance:
        """As far as images have to be here to make its disks: what is another host's is made already."""
        if not elsewhere_mark(self._place_of(instance.uuid, "").directory).exists():
            return instance
        devices = [
            msgspec.structs.replace(device, image=None) if self._shared_kind_of(device) else device
            for device in instance.block_devices
        ]
        return msgspec.structs.replace(instance, block_devices=devices)

    def _shared(self, instance: Instance) -> Iterator[tuple[SharedKind, Place, BlockDevice]]:
        for device in instance.block_devices:
            if (kind := self._shared_kind_of(device)) is not None:
                yield kind, self._place_of(instance.uuid, str(device.device_name)), device

    def _images(self, instance: Instance) -> Iterator[EvacuatedImage]:
        return (self._rbd.evacuated(place, device) for place, device in self._written_to(instance))

    def _written_to(self, instance: Instance) -> Iterator[tuple[Place, BlockDevice]]:
        """Images in Ceph."""
        for kind, place, device in self._shared(instance):
            if kind is self._rbd and not is_read_only(device):
                yield place, device
