"""Section [storage]."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import get_args

from oslo_config import cfg

from compute_agent.conf.ceph import rbd_settings
from compute_agent.conf.defaults import defaults_of
from compute_agent.instance.wire import Aio, Backend, CacheMode
from compute_agent.storage.settings import Compression, Preallocation, StorageSettings

_DEFAULTS = defaults_of(StorageSettings)
_PUT_TOGETHER = ("host", "image_sources", "volume_dirs", "rbd")
"""What is not one option's value as it stands."""

GROUP = cfg.OptGroup("storage", help="Local disks and the image cache.")

OPTIONS = [
    cfg.StrOpt(
        "disk_dir",
        default="${agent.state_dir}/disks",
        help="The guests' disks, one directory an instance. An absolute path.",
    ),
    cfg.StrOpt(
        "image_dir",
        default="${agent.state_dir}/images",
        help="The cache of images. An absolute path.",
    ),
    cfg.StrOpt(
        "snapshot_dir",
        default="${agent.state_dir}/snapshots",
        help="Images that were made of instances; file:// images may come from here too. An absolute path.",
    ),
    cfg.StrOpt(
        "backup_dir",
        default="${agent.state_dir}/backups",
        help="Backups of instances' disks, one directory each. An absolute path.",
    ),
    cfg.ListOpt(
        "image_sources",
        default=[str(path) for path in _DEFAULTS["image_sources"]],
        help="The directories that file:// images and kernels may come from, as absolute paths; symbolic links are "
        "followed before it is decided. Empty: none may.",
    ),
    cfg.ListOpt(
        "volume_dirs",
        default=[str(path) for path in _DEFAULTS["volume_dirs"]],
        help="The directories that volumes in files may be in, as absolute paths; symbolic links are followed before "
        "it is decided. By NFS: mounted with vers=4.1. Empty: none may.",
    ),
    cfg.StrOpt(
        "default_backend",
        default=_DEFAULTS["default_backend"],
        choices=get_args(Backend),
        help="Where disks of an instance's own are made, unless its order says otherwise: in local files, or in Ceph.",
    ),
    cfg.StrOpt(
        "cache_mode",
        default=_DEFAULTS["cache_mode"],
        choices=get_args(CacheMode),
        help="How blocks of a disk are cached on this node, unless its order says otherwise.",
    ),
    cfg.StrOpt(
        "aio",
        default=_DEFAULTS["aio"],
        choices=("auto", *get_args(Aio)),
        help="How QEMU reads and writes local files. auto: native where the host's cache is not used (none or "
        "directsync), else threads. io_uring is for guests that are not confined.",
    ),
    cfg.StrOpt(
        "qemu_img", default=_DEFAULTS["qemu_img"], help="The qemu-img program: a path, or a name to be found in PATH."
    ),
    cfg.FloatOpt(
        "qemu_img_timeout",
        default=_DEFAULTS["qemu_img_timeout"],
        min=1,
        max=86400,
        help="Seconds that one run of qemu-img may take.",
    ),
    cfg.FloatOpt(
        "copy_timeout",
        default=_DEFAULTS["copy_timeout"],
        min=1,
        max=7 * 86400,
        help="Seconds that the copy of one disk of a stopped instance, or its restoring, may take.",
    ),
    cfg.FloatOpt(
        "download_timeout",
        default=_DEFAULTS["download_timeout"],
        min=1,
        max=86400,
        help="Seconds that the download of a whole image may take.",
    ),
    cfg.FloatOpt(
        "connect_timeout",
        default=_DEFAULTS["connect_timeout"],
        min=1,
        max=3600,
        help="Seconds until an image server must have accepted the connection, and the longest silence on it.",
    ),
    cfg.IntOpt(
        "reserved_space",
        default=_DEFAULTS["reserved_space"],
        min=0,
        help="Bytes that are always left free on the file systems of disk_dir and image_dir.",
    ),
    cfg.IntOpt(
        "image_cache_size_mb",
        default=_DEFAULTS["image_cache_size_mb"],
        min=0,
        help="MiB that the image cache may take. Images that no disk stands on make room for new ones, the one that "
        "was used longest ago first; what does not fit beside those in use is refused. 0: no limit but reserved_space.",
    ),
    cfg.FloatOpt(
        "image_verify_interval",
        default=_DEFAULTS["image_verify_interval"],
        min=0,
        help="Seconds after which a cached image is read as a whole and verified again before a new disk stands on "
        "it. One that has visibly changed always is. 0: never.",
    ),
    cfg.StrOpt(
        "preallocation",
        default=_DEFAULTS["preallocation"],
        choices=get_args(Preallocation),
        help="What of the space of a new local disk is taken when it is made: nothing (off), its tables (metadata), "
        "or all of it, reserved (falloc) or written with zeros (full), within qemu_img_timeout.",
    ),
    cfg.StrOpt(
        "copy_compression",
        default=_DEFAULTS["copy_compression"],
        choices=get_args(Compression),
        help="How snapshots and backups in files of this node are compressed, which costs time of its CPUs.",
    ),
]


def storage_settings(conf: cfg.ConfigOpts) -> StorageSettings:
    """What the storage room is told."""
    plain = {name: conf.storage[name] for name in _DEFAULTS if name not in _PUT_TOGETHER}
    return StorageSettings(
        host=conf.host or socket.gethostname(),
        rbd=rbd_settings(conf),
        volume_dirs=tuple(Path(path) for path in conf.storage.volume_dirs),
        disk_dir=Path(conf.storage.disk_dir),
        image_dir=Path(conf.storage.image_dir),
        image_sources=tuple(Path(path) for path in conf.storage.image_sources),
        snapshot_dir=Path(conf.storage.snapshot_dir),
        backup_dir=Path(conf.storage.backup_dir),
        **plain,
    )
