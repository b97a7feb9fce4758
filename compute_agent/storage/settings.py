"""What the storage room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compute_agent.instance.wire import Backend, CacheMode
from compute_agent.storage.rbd.settings import RbdSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Section ``[storage]``; times in seconds, sizes in bytes."""

    disk_dir: Path
    """One directory an instance."""
    image_dir: Path
    """The image cache."""
    rbd: RbdSettings
    host: str = "this host"
    """How other hosts know this one: what they read about a disk that it has."""
    volume_dirs: tuple[Path, ...] = ()
    """The directories that volumes in files may be in."""
    image_sources: tuple[Path, ...] = (Path("/var/lib/compute-agent/sources"),)
    """The directories that file:// images may come from; symbolic links are followed before it is decided."""
    default_backend: Backend = "qcow2"
    """Where disks of an instance's own are made, unless the order says otherwise."""
    cache_mode: CacheMode = "writeback"
    """Of disks whose order does not say."""
    qemu_img: str = "qemu-img"
    qemu_img_timeout: float = 60.0
    """For one run."""
    download_timeout: float = 600.0
    """For a whole image."""
    connect_timeout: float = 10.0
    """For the connection, and for the longest silence on it."""
    reserved_space: int = 256 * 1024 * 1024
    """Never left free less than this on either file system."""
