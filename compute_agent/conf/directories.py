"""The directories that options name, found unusable before anything needs them."""

from __future__ import annotations

import os
from pathlib import Path

from oslo_config import cfg

from compute_agent.errors import InvalidConfiguration

_DIRECTORIES = (
    ("agent", "state_dir"),
    ("agent", "run_dir"),
    ("virt", "state_dir"),
    ("virt", "run_dir"),
    ("storage", "disk_dir"),
    ("storage", "image_dir"),
    ("ceph", "state_dir"),
    ("ceph", "run_dir"),
)


def check_directories(conf: cfg.ConfigOpts) -> None:
    """Make those that are not there.

    :raises InvalidConfiguration: one is not absolute, cannot be made or cannot be written to.
    """
    for group, name in _DIRECTORIES:
        _prepare(f"{group}.{name}", conf[group][name])
    for name in ("image_sources", "volume_dirs"):
        for path in conf.storage[name]:
            _require_absolute(f"storage.{name}", path)


def _prepare(option: str, path: str) -> None:
    _require_absolute(option, path)
    try:
        Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidConfiguration(option, path, f"cannot be made: {error.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidConfiguration(option, path, "cannot be written to")


def _require_absolute(option: str, path: str) -> None:
    if not Path(path).is_absolute():
        raise InvalidConfiguration(option, path, "must be an absolute path")
