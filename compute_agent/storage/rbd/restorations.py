"""Disks of stopped instances, made anew beside the present ones, which they then change places with.

::

    <uuid>_disk0            the disk
    <uuid>_disk0.restored   what it is to become; after an exchange that was taken back, what it was not to become
    <uuid>_disk0.former     what it was before, until the end

That something of this may be there is noted in the instance's directory before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.rbd.notes import Note, read_note
from compute_agent.storage.rbd.purge import UnwantedImage
from compute_agent.storage.rbd.spare_images import SpareImages
from compute_agent.storage.rbd.upload import discard
from compute_agent.storage.source import Place

_RESTORED, _FORMER = ".restored", ".former"
_SUFFIX = ".restoring"


class Restorations:
    """All may be repeated after a crash; nothing happens about disks that nobody began to restore."""

    def __init__(self, images: SpareImages) -> None:
        self._images = images

    @contextmanager
    def making(self, place: Place) -> Iterator[NbdSource]:
        """An image beside the disk's, as large and empty, to be filled."""
        note = _note(place)
        cluster, restored = self._images.cluster(note.user), _spare(note)[0]
        _marker(place).touch()
        self.exchange_back(place)
        self._stop_serving(place)
        for unwanted in _spare(note):
            self._images.unwanted.make_room(unwanted)
        discard(cluster, note.pool, restored.image)
        cluster.create(note.pool, restored.image, cluster.info(note.pool, note.image).size)
        source = self._images.serve(place.instance_uuid, restored)
        try:
            yield source
        finally:
            source.close()
            self._stop_serving(place)

    def exchange(self, place: Place) -> None:
        """One rename takes the disk away, one brings the other; after a crash between them the next time goes on."""
        if not _marker(place).exists():
            return
        note = _note(place)
        cluster, (restored, former) = self._images.cluster(note.user), _names(note)
        if cluster.exists(note.pool, restored):
            if not cluster.exists(note.pool, former):
                cluster.rename(note.pool, note.image, former)
            cluster.rename(note.pool, restored, note.image)

    def exchange_back(self, place: Place) -> None:
        """The disk that was there before is there again."""
        if not _marker(place).exists():
            return
        note = _note(place)
        cluster, (restored, former) = self._images.cluster(note.user), _names(note)
        if cluster.exists(note.pool, former):
            if cluster.exists(note.pool, note.image):
                cluster.rename(note.pool, note.image, restored)
            cluster.rename(note.pool, former, note.image)

    def finish(self, place: Place) -> None:
        """Only the disk stays; the others are removed when the cluster lets us."""
        if _marker(place).exists():
            self._stop_serving(place)
            self._images.remove_later(_spare(_note(place)))
            _marker(place).unlink()

    def undo(self, place: Place) -> None:
        """Of a restoration that failed, and could not be undone because the cluster was away."""
        self.exchange_back(place)
        self.finish(place)

    def _stop_serving(self, place: Place) -> None:
        self._images.stop_serving(place.instance_uuid, _spare(_note(place))[0])


def _marker(place: Place) -> Path:
    return place.directory / f"{place.name}{_SUFFIX}"


def _note(place: Place) -> Note:
    note = read_note(place)
    if note is None:
        raise StorageError(f"{place.name} has no image in Ceph")
    return note


def _names(note: Note) -> tuple[str, str]:
    return note.image + _RESTORED, note.image + _FORMER


def _spare(note: Note) -> list[UnwantedImage]:
    return [UnwantedImage(user=note.user, pool=note.pool, image=name) for name in _names(note)]
