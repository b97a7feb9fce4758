"""What the agent asks of a Ceph cluster. Each verb may be repeated after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compute_agent.errors import DeadlineExceeded, DiskInUse, StorageError
from compute_agent.storage.rbd.answers import ImageInfo, Owner, Snapshot, Watcher
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser, Credentials, find_credentials
from compute_agent.storage.rbd.worker_pool import WorkerPool


class Cluster:
    """One cluster as one user; for many threads. It connects when it is first asked.

    Every verb:

    :raises InvalidMessage: of ``connection_info.data``: this node does not know the cluster, the user or the secret.
    :raises StorageError: not done, because the cluster cannot be reached or refuses.
    :raises DeadlineExceeded: it did not answer in time: whether it was done is unknown.
    """

    def __init__(self, user: ClusterUser, settings: CephSettings) -> None:
        self.user = user
        self._settings = settings
        self._workers = WorkerPool(user, settings)

    def close(self) -> None:
        """End the connections that are not in use; the others end with their calls. It may be asked again."""
        self._workers.close()

    def credentials(self) -> Credentials:
        """What others, such as QEMU, need to open images of this cluster as this user. Never to be kept."""
        return find_credentials(self.user, self._settings)

    def access(self) -> Credentials:
        """The same for who is confined, and cannot look up monitors that have names."""
        monitors = str(self._ask("monitors", f"cluster {self.user.cluster_name}", {}))
        return replace(self.credentials(), monitors=monitors)

    def fsid(self) -> str:
        """The cluster's own uuid."""
        return str(self._ask("fsid", f"cluster {self.user.cluster_name}", {}))

    def capacity(self, pool: str) -> Mapping[str, int]:
        """Bytes that a pool takes: ``total`` and ``free``, whatever its replicas."""
        capacity: Mapping[str, int] = self._ask("capacity", f"pool {pool}", {"pool": pool})
        return capacity

    def list_images(self, pool: str) -> list[str]:
        """The names of a pool's images."""
        names: list[str] = self._ask("list_images", f"pool {pool}", {"pool": pool})
        return names

    def create(self, pool: str, image: str, size: int) -> None:
        """An empty image of `size` bytes; one that is there already is fine if it has that size and no parent."""
        self._on("create", pool, image, size=size)

    def clone(self, pool: str, image: str, parent_pool: str, parent_image: str, snapshot: str) -> None:
        """A copy-on-write clone of a snapshot; one that is there already is fine if it has that parent."""
        self._on("clone", pool, image, parent=[parent_pool, parent_image, snapshot])

    def exists(self, pool: str, image: str) -> bool:
        """Whether there is such an image."""
        return bool(self._on("exists", pool, image))

    def info(self, pool: str, image: str) -> ImageInfo:
        """What the image is."""
        return ImageInfo(**self._on("info", pool, image))

    def remove(self, pool: str, image: str) -> None:
        """Remove the image and its snapshots. Nothing happens where there is none.

        :raises DiskInUse: somebody has it open (a client that died counts for 30 s), or a snapshot has clones.
        """
        self._on("remove", pool, image, is_long=True)

    def rename(self, pool: str, image: str, name: str) -> None:
        """Give the image another name in its pool."""
        self._on("rename", pool, image, name=name)

    def resize(self, pool: str, image: str, size: int) -> None:
        """Grow the image to `size` bytes.

        :raises StorageError: it is larger.
        """
        self._on("resize", pool, image, size=size)

    def flatten(self, pool: str, image: str) -> None:
        """Copy what the image has from its parent, so that it needs none."""
        self._on("flatten", pool, image, is_long=True)

    def create_snapshot(self, pool: str, image: str, snapshot: str, *, protect: bool = False) -> None:
        """One that is there already is fine; protected, it cannot be removed by mistake."""
        self._on("create_snapshot", pool, image, snapshot=snapshot, protect=protect)

    def remove_snapshot(self, pool: str, image: str, snapshot: str) -> None:
        """Remove a snapshot, protected or not. Nothing happens where there is none.

        :raises DiskInUse: it has clones.
        """
        self._on("remove_snapshot", pool, image, is_long=True, snapshot=snapshot)

    def rollback(self, pool: str, image: str, snapshot: str) -> None:
        """Give the image the content and size that it had.

        :raises DiskInUse: somebody writes to it.
        """
        self._on("rollback", pool, image, is_long=True, snapshot=snapshot)

    def list_snapshots(self, pool: str, image: str) -> list[Snapshot]:
        """Those that were made by name, oldest first."""
        return [Snapshot(**one) for one in self._on("list_snapshots", pool, image)]

    def watchers(self, pool: str, image: str) -> list[Watcher]:
        """Who has the image open; a client that died counts for 30 s."""
        return [Watcher(**one) for one in self._on("watchers", pool, image)]

    def get_mark(self, pool: str, image: str, key: str) -> str | None:
        """A value of the image's metadata."""
        mark: str | None = self._on("get_mark", pool, image, key=key)
        return mark

    def set_mark(self, pool: str, image: str, key: str, value: str) -> None:
        """Set a value of the image's metadata."""
        self._on("set_mark", pool, image, key=key, value=value)

    def take(self, pool: str, image: str, owner: Owner) -> None:
        """Make `owner` the image's only one. It stays so until `release`, whoever dies.

        :raises DiskInUse: another is; the message names it.
        """
        self._on("take", pool, image, owner=str(owner))

    def release(self, pool: str, image: str, owner: Owner) -> None:
        """End what `owner` took, here or on another host. Nothing happens where the image is not its own, or gone."""
        self._on("release", pool, image, owner=str(owner))

    def owner(self, pool: str, image: str) -> Owner | None:
        """Whose the image is."""
        holder = self._on("holder", pool, image)
        return Owner(*holder["owner"].split("/", 1)) if holder else None

    def break_writer(self, pool: str, image: str) -> bool:
        """Take its lock from a librbd that may have died, so that the next need not wait for it; whether there was one.

        To be called only by the image's owner, before it starts. The cluster blocks that client for an hour, so that
        nothing it had under way arrives later; the next client, on the same host too, is another one.
        """
        return bool(self._on("break_writers", pool, image))

    def _on(self, verb: str, pool: str, image: str, *, is_long: bool = False, **arguments: Any) -> Any:
        return self._ask(verb, f"{pool}/{image}", {"pool": pool, "image": image, **arguments}, is_long=is_long)

    def _ask(self, verb: str, target: str, arguments: Mapping[str, Any], *, is_long: bool = False) -> Any:
        seconds = self._settings.long_call_timeout if is_long else self._settings.call_timeout
        with self._workers.lend(seconds) as worker:
            try:
                answer = worker.call(verb, arguments, seconds)
            except DeadlineExceeded as error:
                raise DeadlineExceeded(f"{verb} of {target}: {error}") from error
        if "error" not in answer:
            return answer["result"]
        if answer["error"] == "failed":
            raise StorageError(f"{verb} of {target}: {answer['reason']}")
        raise (DiskInUse if answer["error"] == "in_use" else StorageError)(f"{target} {answer['reason']}")
