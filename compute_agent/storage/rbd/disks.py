"""Disks in Ceph: an instance's own, and volumes. A block server opens them; the guest gets a connection to it.

What an instance has here is noted in its directory before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from compute_agent.errors import InvalidMessage, MigrationRefused
from compute_agent.instance.block_device import BlockDevice, RbdConnection
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.images import ImageCache
from compute_agent.storage.inspection import require_growth
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.rbd.answers import Owner
from compute_agent.storage.rbd.chores import Chores
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.clusters import Clusters
from compute_agent.storage.rbd.credentials import ClusterUser
from compute_agent.storage.rbd.evacuation import EvacuatedImage
from compute_agent.storage.rbd.notes import Note, forget_note, read_note, write_note
from compute_agent.storage.rbd.own_images import OwnImages, check_image_url, size_in_cluster
from compute_agent.storage.rbd.purge import PurgeQueue
from compute_agent.storage.rbd.restorations import Restorations
from compute_agent.storage.rbd.space import PoolSpace
from compute_agent.storage.rbd.spare_images import SpareImages
from compute_agent.storage.server.exports import RbdExport
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import Coming, Place, is_elsewhere, is_read_only


class RbdDisks:
    """The `compute_agent.storage.source.SharedKind` of them."""

    def __init__(self, settings: StorageSettings, images: ImageCache, qemu_img: QemuImg, servers: BlockServers) -> None:
        self._own_pool = settings.rbd.own_pool
        self._host = settings.host
        self._servers = servers
        self._clusters = Clusters(settings.rbd.ceph)
        self._own_images = OwnImages(settings, images, qemu_img)
        remove = partial(self._clusters.remove, host=settings.host)
        self._unwanted = PurgeQueue(_made(settings.rbd.state_dir / "unwanted"), remove)
        self.spare_images = SpareImages(
            own_pool=self._own_pool,
            clusters=self._clusters,
            servers=servers,
            unwanted=self._unwanted,
            wake=self._wake,
            describe=lambda place, device: self._describe(place.name, place.instance_uuid, device),
        )
        self.restorations = Restorations(self.spare_images)
        release = partial(self._clusters.release, host=settings.host)
        self._abandoned = PurgeQueue(_made(settings.rbd.state_dir / "abandoned"), release)
        self._space = PoolSpace(self._capacity)
        queues = [self._abandoned.run_due, self._unwanted.run_due]
        self._chores = Chores([self._space.look, *queues] if self._own_pool else queues)

    def close(self) -> None:
        """Block servers go on."""
        self._chores.close()
        self._servers.close()
        self._clusters.close()

    def inspect(self) -> set[str]:
        """The instances that have a block server."""
        return self._servers.inspect()

    def capacity(self) -> Mapping[str, Mapping[str, int]]:
        """``rbd``: of the pool for disks of instances, if there is one and anything is known of it."""
        known = self._space.last_known()
        return {} if known is None else {"rbd": known}

    def check(self, field: str, device: BlockDevice) -> None:
        """The node must know the cluster, the user and the secret."""
        check_image_url(field, device)
        if device.source_type != "volume" and self._own_pool is None:
            raise InvalidMessage(
                f"{field}.backend", "rbd", "this node makes no disks in Ceph ([storage] rbd_pool is empty)"
            )
        try:
            note = self._describe("disk", "", device)
            self._clusters.get(note.user).credentials()
        except InvalidMessage as error:
            raise InvalidMessage(f"{field}.{error.field}", error.value, error.reason) from error

    def make(self, place: Place, device: BlockDevice, progress: Progress) -> None:
        """A clone of the image, which is brought into the cluster if it is not there; or an empty image.

        A volume is there already, and so is what another host has.
        """
        if device.source_type == "volume" or is_elsewhere(place):
            return
        note = self._note(place, device)
        cluster = self._clusters.get(note.user)
        self._unwanted.make_room(note.as_unwanted())
        self._own_images.make(cluster, note, place, device, progress)

    def connect(self, place: Place, device: BlockDevice) -> NbdSource:
        """A connection to the instance's block server. The image is the instance's own until `disconnect`."""
        export = self.export(place, device)
        self._servers.add(place.instance_uuid, export)
        return self._connection(place)

    def export(self, place: Place, device: BlockDevice) -> RbdExport:
        """The image is the instance's own until `disconnect`; where it is another host's, from `take_over` on."""
        note = self._note(place, device)
        cluster = self._clusters.get(note.user)
        read_only = is_read_only(device)
        if not is_elsewhere(place):
            self.restorations.undo(place)
            if not read_only:
                self._take(cluster, note, place)
        return self._export(place, note, cluster, read_only=read_only)

    def _take(self, cluster: Cluster, note: Note, place: Place) -> None:
        self._abandoned.make_room(note.as_unwanted())  # or it would be released once more, later
        cluster.take(note.pool, note.image, self._owner(place))
        if not self._servers.serves(place.instance_uuid, place.name):
            # A block server that died uncleanly would keep the next one waiting.
            cluster.break_writer(note.pool, note.image)

    def leave_proof(self, place: Place, device: BlockDevice, proof: str, *, runs: bool) -> None:
        """A cluster has one image of a name."""

    def take_proof_back(self, place: Place, device: BlockDevice, proof: str) -> None:
        """There is none."""

    def require_same(self, place: Place, device: BlockDevice, coming: Coming) -> None:
        """See that this host finds the very image that the instance has on another: the cluster knows whose it is."""
        note = self._describe(place.name, place.instance_uuid, device)
        cluster = self._clusters.get(note.user)
        if not cluster.exists(note.pool, note.image):
            raise MigrationRefused(place.name, f"{note.pool}/{note.image} is not in the cluster that is known here")
        owner = cluster.owner(note.pool, note.image)
        if owner is None and not coming.in_use:
            return
        if not is_read_only(device) and (owner is None or owner.instance_uuid != place.instance_uuid):
            raise MigrationRefused(place.name, f"{note.pool}/{note.image} here is {owner or 'nobody'}'s")

    def take_over(self, place: Place, device: BlockDevice) -> None:
        """The image is the instance's on this host. The librbd of another, if one still writes, gives way to ours."""
        note = self._note(place, device)
        if is_read_only(device):
            return
        cluster = self._clusters.get(note.user)
        self._abandoned.make_room(note.as_unwanted())
        owner, own = cluster.owner(note.pool, note.image), self._owner(place)
        if owner is not None and owner != own and owner.instance_uuid == own.instance_uuid:
            cluster.release(note.pool, note.image, owner)
        cluster.take(note.pool, note.image, own)

    def evacuated(self, place: Place, device: BlockDevice) -> EvacuatedImage:
        """The image of a disk that is written to, as one that may change its host without being asked."""
        note = self._describe(place.name, place.instance_uuid, device)
        return EvacuatedImage(self._clusters.get(note.user), note.pool, note.image, self._owner(place))

    def evacuate(self, place: Place, device: BlockDevice, source: str, epoch: int) -> None:
        """The image is the instance's on this host; that host cannot write to it any more.

        :raises MigrationRefused: see there.
        """
        note = self._note(place, device)
        self._abandoned.make_room(note.as_unwanted())
        self.evacuated(place, device).claim(source, epoch)

    def disconnect(self, place: Place) -> None:
        """The block server closes the image, and other hosts may have it; in a moment, where the cluster is away."""
        note = read_note(place)
        if note is not None:
            self._servers.remove(place.instance_uuid, place.name)
            self._abandoned.purge(note.as_unwanted())
            if not note.own:
                forget_note(place)

    def file(self, place: Place, device: BlockDevice) -> None:
        """It is none."""

    def size(self, place: Place, device: BlockDevice) -> int:
        """As the cluster has it."""
        note = self._describe(place.name, place.instance_uuid, device)
        return self._clusters.get(note.user).info(note.pool, note.image).size

    def check_growth(self, place: Place, device: BlockDevice, size: int) -> None:
        """The server grows the image through the container in it, which hides the size of a volume's image from it."""
        note = self._describe(place.name, place.instance_uuid, device)
        if device.encryption is not None and not note.own:
            raise InvalidMessage("disk", place.name, "an encrypted volume in Ceph cannot grow while this guest runs")
        self._growth(note, device, size)

    def grow(self, place: Place, device: BlockDevice, size: int, *, running: bool) -> NbdSource | None:
        """The image grows, then what the block server knows of it."""
        note = self._note(place, device)
        cluster = self._clusters.get(note.user)
        needed = self._growth(note, device, size)
        cluster.resize(note.pool, note.image, needed)
        if not running:
            return None
        export = self._export(place, note, cluster, read_only=is_read_only(device))
        self._servers.resize(place.instance_uuid, export, needed)
        return self._connection(place)

    def _growth(self, note: Note, device: BlockDevice, size: int) -> int:
        """Bytes of the image of a disk that is to have `size`."""
        needed = size_in_cluster(device, size) if note.own else size
        require_growth(self._clusters.get(note.user).info(note.pool, note.image).size, needed)
        return needed

    def delete(self, place: Place) -> None:
        """The image will be removed, which takes as long as it takes; a volume is only let go of."""
        note = read_note(place)
        if note is None:
            return
        self._servers.remove(place.instance_uuid, place.name)
        self.restorations.finish(place)
        if note.own and not is_elsewhere(place):
            self._unwanted.add(note.as_unwanted())
            self._chores.wake()
        else:
            self._abandoned.purge(note.as_unwanted())
        forget_note(place)

    def _wake(self) -> None:
        self._chores.wake()

    def _capacity(self) -> Mapping[str, int]:
        assert self._own_pool is not None
        return self._clusters.get(self._own_pool.user).capacity(self._own_pool.pool)

    def _export(self, place: Place, note: Note, cluster: Cluster, *, read_only: bool) -> RbdExport:
        return RbdExport(
            name=place.name,
            pool=note.pool,
            image=note.image,
            user=note.user.auth_username,
            credentials=cluster.access(),
            read_only=read_only,
        )

    def _connection(self, place: Place) -> NbdSource:
        return self._servers.connect(place.instance_uuid, place.name)

    def _note(self, place: Place, device: BlockDevice) -> Note:
        """Written before anything is done about the disk."""
        note = self._describe(place.name, place.instance_uuid, device)
        write_note(place, note)
        return note

    def _describe(self, name: str, instance_uuid: str, device: BlockDevice) -> Note:
        if isinstance(device.connection_info, RbdConnection):
            volume = device.connection_info.data
            if not volume.auth_enabled:
                raise InvalidMessage("connection_info.data.auth_enabled", False, "a cluster without cephx is not used")
            if volume.auth_username is None:
                raise InvalidMessage("connection_info.data.auth_username", None, "is needed")
            pool, _, image = volume.name.partition("/")
            user = ClusterUser(
                cluster_name=volume.cluster_name, auth_username=volume.auth_username, secret_uuid=volume.secret_uuid
            )
            return Note(user=user, pool=pool, image=image, own=False)
        assert self._own_pool is not None
        return Note(user=self._own_pool.user, pool=self._own_pool.pool, image=f"{instance_uuid}_{name}", own=True)

    def _owner(self, place: Place) -> Owner:
        return Owner(self._host, place.instance_uuid)


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory
