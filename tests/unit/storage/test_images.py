"""What reaches a guest is what was declared, and nothing that could make QEMU read another file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from compute_agent.errors import InvalidImage, StorageError
from compute_agent.instance.block_device import SourceFile
from compute_agent.instance.model import DirectBoot
from compute_agent.storage.inspection import MAX_VIRTUAL_SIZE, virtual_size
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .making import (
    cached,
    checksum,
    ignore,
    image_disk,
    leftovers,
    local_disk,
    local_source,
    make_instance,
    make_qcow2,
    qemu_img,
)

IMAGE = "instance.block_devices[0].image"


def partitioned(boot_flag: int = 0x80) -> bytes:
    """A raw disk of 1 MiB with one Linux partition in its MBR."""
    entry = struct.pack("<B3BB3BII", boot_flag, 0, 2, 0, 0x83, 0, 0, 0, 2048, 1024)
    return (b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa").ljust(1024 * 1024, b"\0")


def sized(content: bytes, size: int) -> bytes:
    """The image, with another virtual size in its header."""
    return content[:24] + struct.pack(">Q", size) + content[32:]


def kernel(magic: bytes = b"HdrS") -> bytes:
    return b"\0" * 0x202 + magic + b"\0" * 512


def refused(disks: NodeDisks, settings: StorageSettings, **order: object) -> InvalidImage:
    """Why the image is refused, after seeing that nothing is left."""
    with pytest.raises(InvalidImage) as caught:
        disks.create(make_instance(**order), ignore)
    assert leftovers(settings) == []
    assert cached(settings) == []
    return caught.value


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_wrong_checksum_names_declared_and_found(
    disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes, algorithm: str
) -> None:
    url = local_source(sources, qcow2_content).url
    declared = checksum(b"something else", algorithm)
    error = refused(disks, settings, block_devices=[image_disk(url, declared)])
    assert error.field == f"{IMAGE}.checksum"
    assert error.value == declared
    assert checksum(qcow2_content, algorithm) in error.reason


def test_backing_file(disks: NodeDisks, settings: StorageSettings, sources: Path, tmp_path: Path) -> None:
    content = make_qcow2(tmp_path / "evil", "-u", "-F", "raw", "-b", "/etc/passwd")
    error = refused(disks, settings, block_devices=[local_disk(sources, content)])
    assert (error.field, "backing file" in error.reason) == (f"{IMAGE}.url", True)


def test_data_file(disks: NodeDisks, settings: StorageSettings, sources: Path, tmp_path: Path) -> None:
    content = make_qcow2(tmp_path / "evil", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on")
    error = refused(disks, settings, block_devices=[local_disk(sources, content)])
    assert (error.field, "data_file" in error.reason) == (f"{IMAGE}.url", True)


def test_unknown_feature(disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes) -> None:
    content = qcow2_content[:79] + b"\x20" + qcow2_content[80:]
    error = refused(disks, settings, block_devices=[local_disk(sources, content)])
    assert (error.field, "nknown" in error.reason) == (f"{IMAGE}.url", True)


@pytest.mark.parametrize("length", [100, 65536, 300 * 1024])
def test_truncated_qcow2(
    disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes, length: int
) -> None:
    assert length < len(qcow2_content)
    error = refused(disks, settings, block_devices=[local_disk(sources, qcow2_content[:length])])
    assert error.field.startswith(IMAGE)


def test_scribbled_tables(disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes) -> None:
    (table,) = struct.unpack(">Q", qcow2_content[40:48])
    content = qcow2_content[:table] + b"\x80\xff\xff\xff\xff\xff\0\0" + qcow2_content[table + 8 :]
    error = refused(disks, settings, block_devices=[local_disk(sources, content)])
    assert (error.field, "corrupt" in error.reason) == (f"{IMAGE}.url", True)


@pytest.mark.parametrize("size", [0, MAX_VIRTUAL_SIZE + 512, (1 << 64) - 512])
def test_absurd_virtual_size(
    disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes, size: int
) -> None:
    error = refused(disks, settings, block_devices=[local_disk(sources, sized(qcow2_content, size), size_gb=None)])
    assert (error.field, str(size) in error.reason) == (f"{IMAGE}.url", True)


def test_an_image_without_a_whole_sector(
    disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes
) -> None:
    error = refused(disks, settings, block_devices=[local_disk(sources, sized(qcow2_content, 511), size_gb=None)])
    assert (error.field, "0 bytes" in error.reason) == (f"{IMAGE}.url", True)


@pytest.mark.parametrize("size", [512, 1000, 2**20 + 511])
def test_an_image_ends_where_qemu_has_it_end(tmp_path: Path, qcow2_content: bytes, size: int) -> None:
    path = tmp_path / "odd.qcow2"
    path.write_bytes(sized(qcow2_content, size))
    told = json.loads(qemu_img("info", "--output=json", str(path)))
    assert virtual_size(path, "qcow2") == told["virtual-size"]


@pytest.mark.parametrize("found", ["qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed"])
def test_declared_raw_but_another_format(
    disks: NodeDisks, settings: StorageSettings, sources: Path, tmp_path: Path, found: str
) -> None:
    qemu_img("create", "-q", "-f", found, str(tmp_path / "image"), "8M")
    error = refused(disks, settings, block_devices=[local_disk(sources, (tmp_path / "image").read_bytes(), "raw")])
    assert (error.field, error.value) == (f"{IMAGE}.disk_format", "raw")


def test_declared_qcow2_but_raw(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    error = refused(disks, settings, block_devices=[local_disk(sources, partitioned())])
    assert (error.field, error.reason) == (f"{IMAGE}.disk_format", "the content is gpt")


def test_same_content_declared_anew_is_inspected_anew(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> None:
    disks.create(make_instance(local_disk(sources, qcow2_content)), ignore)
    with pytest.raises(InvalidImage, match="the content is qcow2"):
        disks.create(make_instance(local_disk(sources, qcow2_content, "raw")), ignore)


@pytest.mark.parametrize(
    "content", [partitioned(), partitioned(boot_flag=0x33), b"\x01" * 1536], ids=["mbr", "odd", "plain"]
)
def test_raw_disks_pass(disks: NodeDisks, sources: Path, content: bytes) -> None:
    disks.create(make_instance(local_disk(sources, content, "raw")), ignore)


def test_empty_file(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    error = refused(disks, settings, block_devices=[local_disk(sources, b"", "raw")])
    assert (error.field, error.reason) == (f"{IMAGE}.url", "the file is empty")


@pytest.mark.parametrize("content", [kernel(b"ABCD"), b"short"])
def test_kernel_that_is_none(disks: NodeDisks, settings: StorageSettings, sources: Path, content: bytes) -> None:
    error = refused(disks, settings, direct_boot=DirectBoot(kernel=local_source(sources, content)))
    assert (error.field, "not a Linux kernel" in error.reason) == ("instance.direct_boot.kernel.url", True)


def test_kernel_and_ramdisk(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    boot = DirectBoot(
        kernel=local_source(sources, kernel()), ramdisk=local_source(sources, b"cpio"), command_line="quiet"
    )
    instance = make_instance(direct_boot=boot)
    with pytest.raises(StorageError, match="missing"):
        disks.boot_files(instance)
    disks.create(instance, ignore)
    files = disks.boot_files(instance)
    assert files is not None
    assert files.kernel.read_bytes() == kernel()
    assert files.ramdisk is not None
    assert files.ramdisk.read_bytes() == b"cpio"
    assert files.command_line == "quiet"
    assert len(cached(settings)) == 2


def test_ramdisk_with_wrong_checksum(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    ramdisk = SourceFile(url=local_source(sources, b"cpio").url, checksum=checksum(b"other"))
    boot = DirectBoot(kernel=local_source(sources, kernel()), ramdisk=ramdisk)
    with pytest.raises(InvalidImage) as caught:
        disks.create(make_instance(direct_boot=boot), ignore)
    assert caught.value.field == "instance.direct_boot.ramdisk.checksum"
    assert leftovers(settings) == []
