"""Images that nobody wants any more, until the cluster has removed them: some cannot be, yet.

One file an image, written before the first attempt, so that none is forgotten, whoever dies.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compute_agent.errors import ComputeAgentError
from compute_agent.host.durable import PART_SUFFIX
from compute_agent.storage.files import storage_errors, write_complete
from compute_agent.storage.rbd.credentials import ClusterUser
from compute_agent.storage.single_flight import SingleFlight

LOG = logging.getLogger(__name__)

_FIRST_PAUSE = 10.0
"""Seconds; a cluster takes a client that died for one that lives for 30."""
_LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwantedImage:
    """An image that is to go; or only one snapshot of it."""

    user: ClusterUser
    pool: str
    image: str
    snapshot: str | None = None


@dataclass(slots=True)
class _Pause:
    until: float
    length: float


class PurgeQueue:
    """Files in `directory`, which exists; for many threads."""

    def __init__(
        self,
        directory: Path,
        remove: Callable[[UnwantedImage], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`remove` returns when the image is gone. A queue that is made anew tries all again at once."""
        self._directory = directory
        self._remove = remove
        self._clock = clock
        self._flights = SingleFlight()
        self._pauses: dict[Path, _Pause] = {}
        for part in directory.glob(f"*{PART_SUFFIX}"):
            part.unlink()

    def add(self, unwanted: UnwantedImage) -> None:
        """On return it cannot be forgotten any more. It may be there already.

        :raises StorageError: the file system refuses.
        """
        with storage_errors(self._directory):
            write_complete(self._path(unwanted), lambda part: _write(part, unwanted))

    def purge(self, unwanted: UnwantedImage) -> bool:
        """Remove the image now, or else later; whether it is gone.

        :raises StorageError: the file system refuses.
        """
        self.add(unwanted)
        return self._attempt(self._path(unwanted), unwanted)

    def make_room(self, unwanted: UnwantedImage) -> None:
        """To be called before an image of this name is made: one that was to go is not taken for it, nor is it removed.

        :raises StorageError, DeadlineExceeded: the old one is still there.
        """
        path = self._path(unwanted)
        self._flights.run(path.name, lambda: self._remove_listed(path, unwanted))

    def run_due(self) -> int:
        """Try again what has waited long enough; how many images are left."""
        for path, unwanted in self._listed():
            pause = self._pauses.get(path)
            if pause is None or pause.until <= self._clock():
                self._attempt(path, unwanted)
        return len(self.pending())

    def pending(self) -> list[UnwantedImage]:
        """The images that are still to go."""
        return [unwanted for _, unwanted in self._listed()]

    def _attempt(self, path: Path, unwanted: UnwantedImage) -> bool:
        try:
            self._flights.run(path.name, lambda: self._remove_listed(path, unwanted))
        except ComputeAgentError as error:
            pause = self._pauses.get(path)
            length = min(2 * pause.length, _LONGEST_PAUSE) if pause else _FIRST_PAUSE
            self._pauses[path] = _Pause(self._clock() + length, length)
            LOG.info(
                "%s/%s is removed later, in %d s at the earliest: %s", unwanted.pool, unwanted.image, length, error
            )
            return False
        return True

    def _remove_listed(self, path: Path, unwanted: UnwantedImage) -> None:
        """What is not listed (any more) is somebody's, and stays."""
        if path.exists():
            self._remove(unwanted)
            path.unlink()
            self._pauses.pop(path, None)

    def _listed(self) -> Iterator[tuple[Path, UnwantedImage]]:
        for path in sorted(self._directory.glob("*.json")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=UnwantedImage)
            except FileNotFoundError:
                continue  # removed since
            except msgspec.DecodeError as error:
                LOG.error("%s names no image, and is left alone: %s", path, error)

    def _path(self, unwanted: UnwantedImage) -> Path:
        """Snapshots come last: what is to go as well may stand on them."""
        digest = hashlib.sha256(msgspec.json.encode(unwanted)).hexdigest()[:32]
        return self._directory / f"{'snapshot-' if unwanted.snapshot else ''}{digest}.json"


def _write(part: Path, unwanted: UnwantedImage) -> None:
    part.write_bytes(msgspec.json.encode(unwanted))
