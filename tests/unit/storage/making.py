"""Instances and images for the tests of storage."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Literal, cast

import msgspec

from compute_agent.instance.block_device import BlockDevice, Image, SourceFile
from compute_agent.instance.model import Flavor, Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.rbd.credentials import CephSettings
from compute_agent.storage.rbd.settings import RbdSettings
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.server.settings import BlockServerSettings
from compute_agent.storage.settings import StorageSettings

UUID = "0123abcd-1111-4222-8333-444444444444"

GIB = 1024**3


def checksum(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def make_instance(*devices: BlockDevice, **changes: object) -> Instance:
    instance = Instance(uuid=UUID, name="web one", flavor=Flavor(vcpus=1, memory_mb=64), block_devices=list(devices))
    return msgspec.structs.replace(instance, **changes)


def number(instance: Instance, index: int) -> Instance:
    """The same instance under another uuid."""
    return msgspec.structs.replace(instance, uuid=f"{index:08x}{UUID[8:]}")


def image_disk(
    url: str, digest: str, disk_format: Literal["qcow2", "raw"] = "qcow2", size_gb: int | None = 1
) -> BlockDevice:
    image = Image(url=url, checksum=digest, disk_format=disk_format)
    return BlockDevice(source_type="image", image=image, size_gb=size_gb)


def local_disk(
    directory: Path, content: bytes, disk_format: Literal["qcow2", "raw"] = "qcow2", size_gb: int | None = 1
) -> BlockDevice:
    """A disk whose image is a file with this content."""
    source = local_source(directory, content)
    return image_disk(source.url, source.checksum, disk_format, size_gb)


def local_source(directory: Path, content: bytes) -> SourceFile:
    path = directory / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return SourceFile(url=f"file://{path}", checksum=checksum(content))


def make_qcow2(path: Path, *arguments: str, size: str = "64M") -> bytes:
    """What `qemu-img create` makes, with 200 KB of data where it has no other file below it."""
    qemu_img("create", "-q", "-f", "qcow2", *arguments, str(path), size)
    if not arguments:
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 200k", str(path)],
            check=True,
            capture_output=True,
            timeout=20,
        )
    return path.read_bytes()


def qemu_img(*arguments: str) -> str:
    result = subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True, timeout=20)
    return result.stdout


def ignore(percent: int) -> None:
    """A progress that nobody reads."""


def cached(settings: StorageSettings) -> list[Path]:
    """The files of the image cache."""
    return [path for path in settings.image_dir.iterdir() if path.is_file()]


def leftovers(settings: StorageSettings) -> list[Path]:
    """Whatever is left of instances and unfinished downloads."""
    return [*settings.disk_dir.iterdir(), *settings.image_dir.glob("*.part")]


class NoServers:
    """In place of block servers, which take a machine of their own: none runs, and none is needed."""

    def disks(self, instance_uuid: str) -> set[str]:
        return set()

    def serves(self, instance_uuid: str, disk: str) -> bool:
        return False

    def remove(self, instance_uuid: str, disk: str) -> None: ...

    def inspect(self) -> set[str]:
        return set()

    def close(self) -> None: ...


def open_disks(settings: StorageSettings) -> NodeDisks:
    return NodeDisks(settings, cast(BlockServers, NoServers()))


def no_ceph(directory: Path) -> RbdSettings:
    """A node that has no cluster."""
    servers = BlockServerSettings(run_dir=directory / "servers")
    return RbdSettings(ceph=CephSettings(), servers=servers, state_dir=directory / "ceph")
