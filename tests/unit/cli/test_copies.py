"""Snapshots and backups on the command line: what is sent, and what is shown."""

from __future__ import annotations

from compute_agent.errors import CopyNotFound, DiskInUse
from tests.unit.cli.conftest import REQUEST, WEB1, Shell
from tests.unit.cli.fake_client import BACKUP

COPY = "6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"


def test_a_snapshot_says_what_it_is_called(shell: Shell) -> None:
    run = shell("snapshot", "create", "web1", "--image-id", COPY, "--request-id", REQUEST, "-f", "json")
    sent = {"instance_uuid": WEB1, "image_id": COPY, "request_id": REQUEST, "backend": None}
    assert shell.client.requests == [("snapshot", sent)]
    assert (run.status, run.json["operation"], run.json["image_id"]) == (0, "snapshot", COPY)


def test_a_snapshot_that_stays_in_ceph(shell: Shell) -> None:
    shell("snapshot", "create", "web1", "--backend", "rbd")
    assert shell.client.requests[-1][1]["backend"] == "rbd"
    assert shell("snapshot", "create", "web1", "--backend", "raw").status == 2


def test_a_backup_of_some_disks(shell: Shell) -> None:
    run = shell("backup", "create", "web1", "--disk", "disk0", "--disk", "disk2", "-f", "json")
    ((operation, sent),) = shell.client.requests
    assert (operation, sent["disks"], sent["parent"]) == ("backup", ["disk0", "disk2"], None)
    assert run.json["backup_id"] == sent["backup_id"]


def test_an_incremental_backup_stands_on_the_last_one(shell: Shell) -> None:
    none_yet = shell("backup", "create", "web1", "--incremental")
    assert (none_yet.status, none_yet.advice) == (1, f"computectl --host node1 backup create {WEB1}")
    shell.client.backups = [BACKUP]
    shell("backup", "create", "web1", "--incremental")
    assert shell.client.requests[-1][1]["parent"] == BACKUP.backup_id


def test_restore(shell: Shell) -> None:
    assert shell("backup", "restore", "web1", COPY, "--request-id", REQUEST).status == 0
    sent = {"instance_uuid": WEB1, "backup_id": COPY, "request_id": REQUEST}
    assert shell.client.requests == [("restore", sent)]


def test_what_is_listed_and_shown(shell: Shell) -> None:
    shell.client.backups = [BACKUP]
    (listed,) = shell("backup", "list", "-f", "json").json
    assert (listed["backup_id"], listed["disks"], listed["size"]) == (BACKUP.backup_id, ["disk0", "disk1"], 3 * 2**20)
    assert "3.0 MiB" in shell("backup", "list").stdout
    shown = shell("snapshot", "show", COPY, "-f", "json").json
    assert (shown["image_id"], shown["frozen"]) == (COPY, True)


def test_what_is_deleted(shell: Shell) -> None:
    assert [shell(kind, "delete", COPY).status for kind in ("snapshot", "backup")] == [0, 0]
    assert shell.client.requests == [("delete_snapshot", {"copy_id": COPY}), ("delete_backup", {"copy_id": COPY})]
    shell.client.raises = DiskInUse(f"backup {COPY} cannot be deleted")
    assert "cannot be deleted" in shell("backup", "delete", COPY).stderr
    shell.client.raises = CopyNotFound("image_id", COPY)
    assert shell("snapshot", "show", COPY).advice == "computectl --host node1 backup list"
