"""Which file system a path is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent.host.mounts import Mount, mount_holding, mount_of

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:26 / /srv rw - tmpfs tmpfs rw,size=64k
32 31 0:51 / /srv/many\\040volumes rw,relatime shared:7 - nfs4 filer:/volumes rw,vers=4.2,addr=192.0.2.1
33 22 0:52 / /srv2 rw - nfs4 filer:/other rw,vers=4.1
34 22 0:53 / /srv2 rw master:3 propagate_from:2 - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "point", "file_system"),
    [
        ("/", "/", "ext4"),
        ("/home/anna", "/", "ext4"),
        ("/srv", "/srv", "tmpfs"),
        ("/srvs", "/", "ext4"),
        ("/srv/many volumes/one", "/srv/many volumes", "nfs4"),
        ("/srv2/above/another", "/srv2", "xfs"),
    ],
)
def test_the_last_mount_that_holds_a_path(path: str, point: str, file_system: str, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    mount = mount_holding(Path(path), table)
    assert (mount.point, mount.file_system) == (point, file_system)


def test_its_options_are_the_file_system_s_own(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    options = frozenset({"rw", "vers=4.2", "addr=192.0.2.1"})
    assert mount_holding(Path("/srv/many volumes"), table) == Mount("/srv/many volumes", "nfs4", options)


def test_links_are_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc/self/maps")
    assert mount_of(link).file_system == "proc"
    assert mount_holding(link).file_system != "proc"
