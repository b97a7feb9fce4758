"""A directory in which what was built is found again, as long as its recipe stays the same."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[3]
_KEY_LENGTH = 12


def cache_directory() -> Path:
    """``.cache`` in the repository, unless the environment's COMPUTE_AGENT_CACHE names another; it exists."""
    directory = Path(os.environ.get("COMPUTE_AGENT_CACHE") or _REPOSITORY / ".cache").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def built(name: str, recipe: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """The directory that `build` filled, now or in an earlier run with the same `recipe` (files that decide it).

    It appears complete or not at all, and is built by one process however many ask.
    """
    directory = cache_directory() / f"{name}-{_key(recipe)}"
    with _lock(name):
        if not directory.exists():
            _build(directory, build)
    return directory


def checksum(path: Path) -> str:
    """``sha256:…`` of a file; remembered, as hashing an image takes a while."""
    status = path.stat()
    return _checksum(path, status.st_mtime_ns, status.st_size)


@cache
def _checksum(path: Path, _changed_at: int, _size: int) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _key(recipe: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in recipe:
        digest.update(f"{file.name}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:_KEY_LENGTH]


@contextmanager
def _lock(name: str) -> Iterator[None]:
    with (cache_directory() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(directory: Path, build: Callable[[Path], None]) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", dir=directory.parent))
    try:
        build(unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(directory)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
