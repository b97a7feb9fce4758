"""What the doctor makes of directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent.doctor.finding import Status
from compute_agent.doctor.storage import (
    Directory,
    Place,
    Use,
    check_directory,
    check_image_sources,
    check_qemu_img,
    judge_directory,
)
from compute_agent.host.mounts import Mount
from compute_agent.storage.settings import StorageSettings
from tests.unit.storage.making import no_ceph

GIB = 2**30
DISKS = Path("/srv/disks")


def on(file_system: str) -> Mount:
    """Its type, then its options."""
    kind, *options = file_system.split()
    return Mount("/srv", kind, frozenset(options))


@pytest.mark.parametrize(
    ("use", "file_system", "free", "status", "says"),
    [
        (Use.DISKS, "ext4", 100 * GIB, Status.OK, "ext4, 100.0 GiB free"),
        (Use.DISKS, "nfs4", 100 * GIB, Status.OK, "nfs4"),
        (Use.DISKS, "nfs4 vers=4.2", 100 * GIB, Status.FAILURE, "guests cannot make holes"),
        (Use.DISKS, "tmpfs", 100 * GIB, Status.WARNING, "lost when the host reboots"),
        (Use.STATE, "nfs4", 100 * GIB, Status.WARNING, "locks"),
        (Use.STATE, "tmpfs", 100 * GIB, Status.WARNING, "lost when the host reboots"),
        (Use.STATE, "ext4", 2**20, Status.FAILURE, "takes no orders"),
        (Use.RUN, "tmpfs", GIB, Status.OK, "tmpfs"),
        (Use.DISKS, "xfs", 5 * GIB, Status.WARNING, "little"),
        (Use.DISKS, "xfs", 4 * GIB, Status.FAILURE, "boots are refused"),
    ],
)
def test_where_a_directory_is(use: Use, file_system: str, free: int, status: Status, says: str) -> None:
    directory = Directory("storage.disk_dir", DISKS, use, reserved=0 if use is Use.RUN else 5 * GIB - 1)
    finding = judge_directory(directory, Place(DISKS, on(file_system), free, None))
    assert (finding.status, bool(finding.remedy)) == (status, status is not Status.OK)
    assert says in finding.found


def test_a_place_where_nothing_can_be_made() -> None:
    place = Place(Path("/srv"), on("ext4"), GIB, "Read-only file system in /srv")
    finding = judge_directory(Directory("storage.disk_dir", DISKS, Use.DISKS), place)
    assert finding.status is Status.FAILURE
    assert "not there yet" in finding.found
    assert finding.remedy == "mount and mend /srv; or set [storage] disk_dir"


def test_a_directory_that_is_not_there_yet_is_left_so(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    (finding,) = check_directory(Directory("virt.run_dir", wanted, Use.RUN))
    assert finding.status is Status.OK
    assert "not there yet" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_directory_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (finding,) = check_directory(Directory("virt.run_dir", tmp_path / "link", Use.RUN))
    assert finding.status is Status.OK
    assert f"(to {tmp_path}/real)" in finding.found
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("relative", "not absolute"),
        ("/proc/guests", "No such file or directory in /proc"),
        ("/dev/null/guests", "Not a directory in /dev/null"),
    ],
)
def test_a_directory_that_cannot_be(path: str, says: str) -> None:
    (finding,) = check_directory(Directory("virt.run_dir", Path(path), Use.RUN))
    assert finding.status is Status.FAILURE
    assert says in finding.found
    assert "[virt] run_dir" in finding.remedy


def test_image_sources(tmp_path: Path) -> None:
    assert check_image_sources([tmp_path])[0].status is Status.OK
    assert check_image_sources([])[0].status is Status.OK
    (finding,) = check_image_sources([tmp_path, tmp_path / "other"])
    assert finding.status is Status.WARNING
    assert f"mkdir -p {tmp_path}/other" in finding.remedy


def test_qemu_img_that_is_not_there(tmp_path: Path) -> None:
    qemu_img = str(tmp_path / "qemu-img")
    settings = StorageSettings(
        disk_dir=tmp_path,
        image_dir=tmp_path,
        snapshot_dir=tmp_path,
        backup_dir=tmp_path,
        rbd=no_ceph(tmp_path),
        qemu_img=qemu_img,
    )
    (finding,) = check_qemu_img(settings)
    assert finding.status is Status.FAILURE
    assert "apt install qemu-utils" in finding.remedy
