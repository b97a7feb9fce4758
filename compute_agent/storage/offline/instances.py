"""The disk of an instance that does not run, as a file that can be looked into."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compute_agent.errors import DeadlineExceeded, DiskInUse, InvalidMessage, StorageError
from compute_agent.instance.block_device import BlockDevice, FileConnection, RbdConnection
from compute_agent.instance.device_names import find_device, with_named_devices
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.file_locks import has_writer
from compute_agent.storage.files import BLOCK, require_present, require_space, storage_errors
from compute_agent.storage.layers.chain import with_layers
from compute_agent.storage.settings import StorageSettings


def disk_of(instance: Instance, name: str, settings: StorageSettings) -> FileSource:
    """The file of a disk on this node, and what it stands on.

    :raises InvalidMessage: the instance has no such disk, or it cannot be read in a file.
    :raises StorageError: a file is not on this node.
    """
    device = find_device(with_named_devices(instance), name)
    if device is None:
        raise InvalidMessage("disk", name, "the instance has no such disk")
    if device.encryption is not None:
        raise InvalidMessage("disk", name, "is encrypted")
    return with_layers(_first_file(instance, device, settings), device.layers)


@contextmanager
def flattened(source: FileSource, directory: Path, deadline: float) -> Iterator[Path]:
    """A qcow2 below `directory` that stands on nothing; it goes with the context.

    :raises DiskInUse: a guest writes to the disk.
    :raises InsufficientResources: no space for it.
    :raises DeadlineExceeded: copying takes longer than until `deadline` (time.monotonic).
    """
    if has_writer(source.path):
        raise DiskInUse(f"{source.path} is in use: a guest writes to it")
    with storage_errors(directory), tempfile.TemporaryDirectory(prefix="compute-agent-", dir=directory) as room:
        require_space(directory, sum(file.path.stat().st_blocks for file in _chain(source)) * BLOCK, 0)
        flat = Path(room) / "disk.qcow2"
        _convert(source, flat, max(0.1, deadline - time.monotonic()))
        yield flat


def _first_file(instance: Instance, device: BlockDevice, settings: StorageSettings) -> FileSource:
    if isinstance(device.connection_info, FileConnection):
        volume = device.connection_info.data
        return FileSource(path=require_present(Path(volume.path)), format=volume.format)
    path = settings.disk_dir / instance.uuid / f"{device.device_name}.qcow2"
    if isinstance(device.connection_info, RbdConnection) or path.with_suffix(".rbd").exists():
        raise InvalidMessage("disk", device.device_name, "is in Ceph, and not in a file of this node")
    backing = None
    if device.image is not None:
        base = settings.image_dir / "used" / f"{instance.uuid}.{device.device_name}"
        backing = FileSource(path=require_present(base), format=device.image.disk_format)
    return FileSource(path=require_present(path), format="qcow2", backing=backing)


def _convert(source: FileSource, target: Path, seconds: float) -> None:
    command = ["qemu-img", "convert", "-q", "-O", "qcow2", f"json:{json.dumps(_node(source))}", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{source.path} could not be copied in time") from error
    if done.returncode != 0:
        raise StorageError(f"{source.path} cannot be copied: {done.stderr.strip()[-200:]}")


def _node(source: FileSource) -> Mapping[str, Any]:
    """Whatever the headers say about what stands on what is not read."""
    node = {"driver": source.format, "file": {"driver": "file", "filename": str(source.path)}}
    if source.format == "raw":
        return node
    return node | {"backing": None if source.backing is None else _node(source.backing)}


def _chain(source: FileSource) -> Iterator[FileSource]:
    file: FileSource | None = source
    while file is not None:
        yield file
        file = file.backing
