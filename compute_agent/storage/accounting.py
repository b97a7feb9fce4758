"""What local disks take, and what they may yet take: overlays are promises of space."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from compute_agent.storage.files import BLOCK, free_space, total_space
from compute_agent.storage.inspection import virtual_size


def local_usage(disk_dir: Path) -> Mapping[str, int]:
    """Bytes of the file system, ``total`` and ``free``; and of all disks on it: ``allocated``, what they really take,
    and ``provisioned``, what their guests see.

    :raises OSError: the file system refuses.
    """
    allocated = provisioned = 0
    for path in disk_dir.glob("*/*"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            allocated += path.lstat().st_blocks * BLOCK  # a link is to a volume, which is elsewhere
            provisioned += virtual_size(path, "qcow2") if path.suffix == ".qcow2" else 0
    space = {"total": total_space(disk_dir), "free": free_space(disk_dir)}
    return {**space, "allocated": allocated, "provisioned": provisioned}
