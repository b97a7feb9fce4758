"""What a cluster tells the agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """What an image is."""

    id: str
    size: int
    """Bytes."""
    features: Sequence[str]
    parent: str | None
    """pool/image@snapshot, of a clone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot of an image."""

    id: int
    name: str
    size: int
    """Bytes, of the image at that time."""
    protected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Somebody who has an image open."""

    client: int
    address: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The one instance that may write to an image, and where it lives."""

    host: str
    instance_uuid: str

    def __str__(self) -> str:
        return f"{self.host}/{self.instance_uuid}"
