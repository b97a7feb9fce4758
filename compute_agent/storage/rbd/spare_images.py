"""Images beside those that are disks: made for copies, served for as long as it takes, and removed in the end.

What there is of them is noted in a directory before it is made: who finds the directory can have all of it removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compute_agent.errors import StorageError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.files import write_complete
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.clusters import Clusters
from compute_agent.storage.rbd.credentials import ClusterUser
from compute_agent.storage.rbd.notes import Note
from compute_agent.storage.rbd.purge import PurgeQueue, UnwantedImage
from compute_agent.storage.rbd.settings import OwnPool
from compute_agent.storage.server.exports import RbdExport
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.source import Place

_NOTE = "ceph.json"
_DECODER = msgspec.json.Decoder(list[UnwantedImage])
_NAME_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SpareImages:
    """Of one node."""

    own_pool: OwnPool | None
    """Where they are, unless they have to be beside something else."""
    clusters: Clusters
    servers: BlockServers
    unwanted: PurgeQueue
    wake: Callable[[], None]
    """Has what is unwanted looked at now."""
    describe: Callable[[Place, BlockDevice], Note]
    """The image that a disk in Ceph is."""

    def cluster(self, user: ClusterUser) -> Cluster:
        """As this user."""
        return self.clusters.get(user)

    def note(self, directory: Path, images: Sequence[UnwantedImage]) -> None:
        """From now on they may be made: an earlier one of that name is gone.

        :raises StorageError, DeadlineExceeded: it is not.
        """
        write_complete(directory / _NOTE, lambda part: _write(part, images))
        for image in images:
            self.unwanted.make_room(image)

    def noted(self, directory: Path) -> list[UnwantedImage]:
        """:raises StorageError: the note cannot be understood."""
        try:
            return _DECODER.decode((directory / _NOTE).read_bytes())
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            raise StorageError(f"{directory / _NOTE} names no images: {error}") from error

    def remove(self, directory: Path) -> None:
        """Have all that is noted there removed, when the clusters let us."""
        self.remove_later(self.noted(directory))

    def remove_later(self, images: Sequence[UnwantedImage]) -> None:
        """On return they cannot be forgotten any more."""
        for image in images:
            self.unwanted.add(image)
        self.wake()

    def serve(self, instance_uuid: str, image: UnwantedImage, *, read_only: bool = False) -> NbdSource:
        """A connection to an image, over the instance's block server; the caller closes it."""
        export = RbdExport(
            name=_export_name(image),
            pool=image.pool,
            image=image.image,
            user=image.user.auth_username,
            credentials=self.cluster(image.user).access(),
            read_only=read_only,
        )
        self.servers.add(instance_uuid, export)
        return self.servers.connect(instance_uuid, export.name)

    def stop_serving(self, instance_uuid: str, image: UnwantedImage) -> None:
        """The image is closed. Nothing happens where it is not served."""
        self.servers.remove(instance_uuid, _export_name(image))


def _export_name(image: UnwantedImage) -> str:
    """Images have long names, and exports short ones of letters and digits."""
    return "spare" + hashlib.sha256(image.image.encode()).hexdigest()[:_NAME_LENGTH]


def _write(part: Path, images: Sequence[UnwantedImage]) -> None:
    part.write_bytes(msgspec.json.encode(images))
