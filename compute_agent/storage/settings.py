"""What the storage room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.wire import Aio, Backend, CacheMode
from compute_agent.storage.rbd.settings import RbdSettings

Preallocation = Literal["off", "metadata", "falloc", "full"]
"""What of a new disk's space is taken at once: nothing, its tables, all of it unwritten, all of it written."""
Compression = Literal["off", "zlib", "zstd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Section ``[storage]``; times in seconds, sizes in bytes."""

    disk_dir: Path
    """One directory an instance."""
    image_dir: Path
    """The image cache."""
    snapshot_dir: Path
    """Images that were made of instances; they may be booted from."""
    backup_dir: Path
    """One directory a backup."""
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
    aio: Aio | Literal["auto"] = "auto"
    """How QEMU reads and writes local files; auto: native where the host's cache is not used, threads elsewhere."""
    qemu_img: str = "qemu-img"
    qemu_img_timeout: float = 60.0
    """For one run."""
    copy_timeout: float = 3600.0
    """For copying one disk of a stopped instance, or restoring it."""
    download_timeout: float = 600.0
    """For a whole image."""
    connect_timeout: float = 10.0
    """For the connection, and for the longest silence on it."""
    reserved_space: int = 256 * 1024 * 1024
    """Never left free less than this on either file system."""
    image_cache_size_mb: int = 0
    """MiB that the image cache may take; 0: as much as there is."""
    image_verify_interval: float = 7 * 86400.0
    """A cached image is read as a whole and verified when it is used this long after the last time; 0: never."""
    preallocation: Preallocation = "off"
    """Of new local disks."""
    copy_compression: Compression = "off"
    """Of snapshots and backups in files of this node."""

    def cache_of(self, device: BlockDevice) -> CacheMode:
        """As it was ordered, or else the node's."""
        return device.cache_mode or self.cache_mode

    def aio_with(self, cache: CacheMode) -> Aio:
        """How a local file is read and written."""
        if self.aio != "auto":
            return self.aio
        return "native" if cache in ("none", "directsync") else "threads"
