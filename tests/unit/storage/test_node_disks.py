"""Disks are complete or not there, and stay inside their directory."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import (
    InsufficientResources,
    InvalidConfiguration,
    InvalidImage,
    InvalidMessage,
    MigrationRefused,
    StorageError,
)
from compute_agent.instance.block_device import (
    BlockDevice,
    RbdConnection,
    RbdVolume,
)
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.storage.contract import DiskDriver
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import Preallocation, StorageSettings

from .making import (
    GIB,
    UUID,
    cached,
    ignore,
    image_disk,
    leftovers,
    local_disk,
    make_instance,
    number,
    open_disks,
    qemu_img,
)

BLANK = BlockDevice(source_type="blank", size_gb=3)
IN_CEPH = RbdConnection(data=RbdVolume(name="volumes/volume-1", auth_username="compute", secret_uuid=UUID))


def file_of(disk: Disk) -> FileSource:
    assert isinstance(disk.source, FileSource)
    return disk.source


def info(path: Path) -> dict[str, object]:
    answer: dict[str, object] = json.loads(qemu_img("info", "--output=json", "-f", "qcow2", str(path)))
    return answer


def test_keeps_the_contract(disks: NodeDisks) -> None:
    driver: DiskDriver = disks
    assert driver.inspect() == set()


def test_a_volume_that_an_instance_is_made_with_is_there_already(disks: NodeDisks, settings: StorageSettings) -> None:
    """There is no cluster here that could be asked to make it."""
    volume = BlockDevice(source_type="volume", volume_id=UUID, connection_info=IN_CEPH)
    disks.create(make_instance(BLANK, volume), ignore)
    assert [path.name for path in (settings.disk_dir / UUID).glob("disk*")] == ["disk0.qcow2"]


def test_linked_clone_and_blank_disk(
    disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes
) -> None:
    instance = make_instance(local_disk(sources, qcow2_content, size_gb=2), BLANK)
    disks.create(instance, ignore)
    root, blank, config = disks.connect(instance, vhost_user=False)
    image = settings.image_dir / "used" / f"{UUID}.disk0"
    assert root == Disk(
        name="disk0",
        source=FileSource(
            path=settings.disk_dir / UUID / "disk0.qcow2",
            format="qcow2",
            backing=FileSource(path=image, format="qcow2"),
        ),
        serial="0123abcd111142-disk0",
        boot_index=0,
    )
    assert blank == Disk(
        name="disk1",
        source=FileSource(path=settings.disk_dir / UUID / "disk1.qcow2", format="qcow2"),
        serial="0123abcd111142-disk1",
    )
    assert (config.name, file_of(config).format, config.read_only) == ("config", "raw", True)
    facts = info(file_of(root).path)
    assert (facts["virtual-size"], facts["backing-filename"], facts["backing-filename-format"]) == (
        2 * GIB,
        str(image),
        "qcow2",
    )
    assert info(file_of(blank).path)["virtual-size"] == 3 * GIB
    assert image.read_bytes() == qcow2_content


def test_disk_as_large_as_its_image(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> None:
    instance = make_instance(local_disk(sources, qcow2_content, size_gb=None))
    disks.create(instance, ignore)
    assert info(file_of(disks.connect(instance, vhost_user=False)[0]).path)["virtual-size"] == 64 * 1024**2


def test_raw_image_under_a_clone(disks: NodeDisks, sources: Path) -> None:
    instance = make_instance(local_disk(sources, b"\x07" * 5000, "raw"))
    disks.create(instance, ignore)
    (disk, _) = disks.connect(instance, vhost_user=False)
    source = file_of(disk)
    assert source.backing is not None
    assert source.backing.format == info(source.path)["backing-filename-format"] == "raw"


def test_serials_are_short_and_unique(disks: NodeDisks) -> None:
    instance = make_instance(*[BLANK] * 12)
    disks.create(instance, ignore)
    serials = [disk.serial for disk in disks.connect(instance, vhost_user=False)]
    assert len(set(serials)) == 13
    assert {len(serial) for serial in serials} == {20}


def test_boot_order_of_the_owner(disks: NodeDisks) -> None:
    instance = make_instance(BLANK, BlockDevice(source_type="blank", size_gb=1, boot_index=4), config_drive=False)
    disks.create(instance, ignore)
    assert [disk.boot_index for disk in disks.connect(instance, vhost_user=False)] == [None, 4]


def test_image_that_does_not_fit(disks: NodeDisks, settings: StorageSettings, sources: Path, tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", str(tmp_path / "large"), "2G")
    instance = make_instance(BLANK, local_disk(sources, (tmp_path / "large").read_bytes(), size_gb=1))
    with pytest.raises(InvalidImage) as caught:
        disks.create(instance, ignore)
    assert caught.value.field == "instance.block_devices[1].size_gb"
    assert f"{2 * GIB} bytes does not fit in the disk's {GIB} bytes" in caught.value.reason
    assert leftovers(settings) == []


def test_no_space_for_disks(full_disks: NodeDisks, settings: StorageSettings) -> None:
    with pytest.raises(InsufficientResources, match=rf"{settings.disk_dir} has not enough space: .* needed, .* free"):
        full_disks.create(make_instance(BLANK), ignore)
    assert leftovers(settings) == []


def test_create_again_keeps_what_is_there(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> None:
    instance = make_instance(local_disk(sources, qcow2_content), BLANK)
    disks.create(instance, ignore)
    before = [file_of(disk).path.stat().st_ino for disk in disks.connect(instance, vhost_user=False)]
    unfinished = file_of(disks.connect(instance, vhost_user=False)[1]).path
    unfinished.rename(unfinished.with_name(unfinished.name + ".part"))  # as a crash leaves it
    disks.create(instance, ignore)
    after = [file_of(disk).path.stat().st_ino for disk in disks.connect(instance, vhost_user=False)]
    assert (after[0], after[2]) == (before[0], before[2])
    assert {path.name for path in unfinished.parent.iterdir()} == {"disk0.qcow2", "disk1.qcow2", "config.iso"}


def test_failure_of_qemu_img_leaves_nothing(settings: StorageSettings, tmp_path: Path) -> None:
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\necho cannot do it >&2\nexit 1\n")
    program.chmod(0o700)
    with pytest.raises(StorageError, match="cannot do it"):
        open_disks(replace(settings, qemu_img=str(program))).create(make_instance(BLANK), ignore)
    assert leftovers(settings) == []


def test_qemu_img_that_hangs_meets_its_deadline(settings: StorageSettings, tmp_path: Path) -> None:
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    with pytest.raises(StorageError, match=r"within 0\.1 s"):
        open_disks(replace(settings, qemu_img=str(program), qemu_img_timeout=0.1)).create(make_instance(BLANK), ignore)
    assert leftovers(settings) == []


@pytest.mark.parametrize("lost", ["disk0.qcow2", "config.iso"])
def test_missing_file(disks: NodeDisks, settings: StorageSettings, lost: str) -> None:
    instance = make_instance(BLANK)
    disks.create(instance, ignore)
    (settings.disk_dir / UUID / lost).unlink()
    with pytest.raises(StorageError, match=f"{lost} is missing"):
        disks.connect(instance, vhost_user=False)


def test_missing_base(disks: NodeDisks, settings: StorageSettings, sources: Path, qcow2_content: bytes) -> None:
    instance = make_instance(local_disk(sources, qcow2_content))
    disks.create(instance, ignore)
    (image,) = cached(settings)
    image.unlink()
    disks.connect(instance, vhost_user=False)
    (settings.image_dir / "used" / f"{UUID}.disk0").unlink()
    with pytest.raises(StorageError, match=f"{image} is missing"):
        disks.connect(instance, vhost_user=False)


def test_delete_and_inspect(disks: NodeDisks, settings: StorageSettings) -> None:
    first, second = number(make_instance(BLANK), 1), number(make_instance(BLANK), 2)
    disks.create(first, ignore)
    disks.create(second, ignore)
    assert disks.inspect() == {first.uuid, second.uuid}
    disks.delete(first.uuid)
    disks.delete(first.uuid)
    assert disks.inspect() == {second.uuid}
    assert [path.name for path in settings.disk_dir.iterdir()] == [second.uuid]


@pytest.mark.parametrize("by", ["start", "delete"])
def test_deletion_cut_short_is_finished(disks: NodeDisks, settings: StorageSettings, by: str) -> None:
    half_deleted = settings.disk_dir / f".deleting-{UUID}"
    half_deleted.mkdir()
    (half_deleted / "disk0.qcow2").write_bytes(b"x")
    disks.create(make_instance(BLANK), ignore)
    assert disks.inspect() == {UUID}
    if by == "start":
        open_disks(settings)
        assert [path.name for path in settings.disk_dir.iterdir()] == [UUID]
    else:
        disks.delete(UUID)
        assert leftovers(settings) == []


@pytest.mark.parametrize("name", ["../images", ".", "", f"{UUID}\n", UUID.upper(), f"{UUID}/.."])
def test_only_uuids_are_deleted(disks: NodeDisks, settings: StorageSettings, name: str) -> None:
    disks.create(make_instance(BLANK), ignore)
    with pytest.raises(InvalidMessage, match="not a uuid"):
        disks.delete(name)
    assert disks.inspect() == {UUID}
    assert settings.image_dir.is_dir()


def test_capacity(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> None:
    assert disks.capacity()["images"] == {"size": 0, "limit": 0, "count": 0, "in_use": 0}
    disks.create(make_instance(local_disk(sources, qcow2_content), BLANK), ignore)
    local, images = disks.capacity().values()
    assert 0 < images["size"] <= len(qcow2_content) + 4096
    assert (images["count"], images["in_use"]) == (1, 1)
    assert 0 < local["free"] < local["total"]
    assert local["provisioned"] == 4 * GIB
    assert 0 < local["allocated"] < 4 * 1024**2


@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_preallocated_disks(
    settings: StorageSettings, sources: Path, qcow2_content: bytes, preallocation: Preallocation
) -> None:
    disks = open_disks(replace(settings, preallocation=preallocation))
    overlay = local_disk(sources, qcow2_content, size_gb=None)
    disks.create(make_instance(overlay), ignore)
    path = settings.disk_dir / UUID / "disk0.qcow2"
    allocated = path.stat().st_blocks * 512
    assert allocated >= 64 * 1024**2 if preallocation != "metadata" else allocated < 1024**2
    subprocess.run(
        ["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 1M 200k", str(path)], check=True, capture_output=True
    )


def test_preallocated_disks_need_their_space(settings: StorageSettings) -> None:
    enough = shutil.disk_usage(settings.disk_dir.parent).free - GIB
    disks = open_disks(replace(settings, preallocation="falloc", reserved_space=enough))
    with pytest.raises(InsufficientResources, match=r"3073\.0 MiB needed"):
        disks.create(make_instance(BLANK), ignore)


def test_directories_are_private(disks: NodeDisks, settings: StorageSettings) -> None:
    disks.create(make_instance(BLANK), ignore)
    for directory in (settings.disk_dir, settings.image_dir, settings.disk_dir / UUID):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("option", ["disk_dir", "image_dir"])
@pytest.mark.parametrize("path", ["relative", "/dev/null/x", "/dev/null", "/proc/nowhere"])
def test_unusable_directory(settings: StorageSettings, option: str, path: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        open_disks(replace(settings, **{option: Path(path)}))
    assert caught.value.field == f"storage.{option}"


def test_unusable_qemu_img(settings: StorageSettings) -> None:
    with pytest.raises(InvalidConfiguration, match=r"storage\.qemu_img"):
        open_disks(replace(settings, qemu_img="/no/such/qemu-img"))


def test_wrong_source_leaves_nothing(disks: NodeDisks, settings: StorageSettings) -> None:
    with pytest.raises(InvalidImage):
        disks.create(make_instance(BLANK, image_disk("file:///etc/passwd", "sha256:" + "0" * 64)), ignore)
    assert leftovers(settings) == []


OWN = BlockDevice(source_type="blank", size_gb=1, device_name="disk0")


def test_disks_of_an_instances_own_move_with_it(disks: NodeDisks) -> None:
    more = msgspec.structs.replace(OWN, device_name="disk3", volume_id=UUID)
    assert disks.moves.mirrored(make_instance(OWN, more)) == ["disk0", "disk3"]
    assert disks.moves.mirrored(make_instance()) == []


def test_what_only_a_dead_host_has_is_not_taken(disks: NodeDisks) -> None:
    in_ceph = msgspec.structs.replace(OWN, device_name="disk1", backend="rbd")
    with pytest.raises(MigrationRefused, match=r"^disk0: it exists on node1 only$"):
        disks.moves.check_evacuation(make_instance(OWN, in_ceph), "node1", 1)
    with pytest.raises(MigrationRefused, match=r"^disks: it has none in Ceph, whose lock would keep node1"):
        disks.moves.check_evacuation(make_instance(), "node1", 1)


def test_a_disk_in_ceph_stays_where_it_is_when_its_guest_moves(disks: NodeDisks) -> None:
    other = msgspec.structs.replace(OWN, device_name="disk1", backend="rbd")
    assert disks.moves.mirrored(make_instance(OWN, other)) == ["disk0"]
