"""What an instance has in Ceph, noted in its directory on this node before anything is done about it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compute_agent.errors import StorageError
from compute_agent.storage.files import write_complete
from compute_agent.storage.rbd.credentials import ClusterUser
from compute_agent.storage.rbd.purge import UnwantedImage
from compute_agent.storage.source import Place


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One disk."""

    user: ClusterUser
    pool: str
    image: str
    own: bool
    """It goes with the instance."""

    def as_unwanted(self) -> UnwantedImage:
        """The image, as it stands in queues of what is to be removed or released."""
        return UnwantedImage(user=self.user, pool=self.pool, image=self.image)


def write_note(place: Place, note: Note) -> None:
    """Note the disk, unless it is noted."""
    write_complete(_path(place), lambda part: _write(part, note))


def read_note(place: Place) -> Note | None:
    """What is noted of the disk, if anything is.

    :raises StorageError: it cannot be understood.
    """
    try:
        return msgspec.json.decode(_path(place).read_bytes(), type=Note)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StorageError(f"{_path(place)} names no image: {error}") from error


def forget_note(place: Place) -> None:
    """The instance has nothing of the disk any more."""
    _path(place).unlink(missing_ok=True)


def _path(place: Place) -> Path:
    return place.directory / f"{place.name}.rbd"


def _write(part: Path, note: Note) -> None:
    part.write_bytes(msgspec.json.encode(note))
