"""Snapshots that stay beside a disk, on the command line: what is sent, and what is shown."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import REQUEST, WEB1, Shell

SNAPSHOT = "6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"
SENT = {"instance_uuid": WEB1, "disk": "disk0", "snapshot_id": SNAPSHOT, "request_id": REQUEST}


def test_a_snapshot_of_a_disk_says_what_it_is_called(shell: Shell) -> None:
    words = ("web1", "disk0", "--snapshot-id", SNAPSHOT, "--request-id", REQUEST, "-f", "json")
    run = shell("volume", "snapshot", "create", *words)
    assert shell.client.requests == [("volume_snapshot_create", SENT)]
    assert (run.status, run.json["snapshot_id"]) == (0, SNAPSHOT)


@pytest.mark.parametrize("verb", ["delete", "revert"])
def test_one_that_is_there_goes_or_is_gone_back_to(shell: Shell, verb: str) -> None:
    assert shell("volume", "snapshot", verb, "web1", "disk0", SNAPSHOT, "--request-id", REQUEST).status == 0
    assert shell.client.requests == [(f"volume_snapshot_{verb}", SENT)]
    assert shell("volume", "snapshot", verb, "web1", "disk0", "yesterday").status == 2
