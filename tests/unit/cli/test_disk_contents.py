"""image inspect, image put: what is told, and what is refused before anything is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.storage.offline import changes, report
from compute_agent.storage.offline.changes import Changes
from compute_agent.storage.offline.report import DiskReport, FileSystem, OperatingSystem, Partition

from .conftest import Shell

REPORT = DiskReport(
    virtual_size=2**30,
    partition_table="gpt",
    partitions=[Partition(number=1, start=2**20, size=2**29)],
    file_systems=[FileSystem(device="/dev/sda1", type="ext4", size=2**29, label="root")],
    operating_systems=[
        OperatingSystem(
            root="/dev/sda1",
            type="linux",
            distribution="debian",
            version="12.1",
            architecture="x86_64",
            hostname="web",
            cloud_init=True,
        )
    ],
)
DISK = ("disk.raw", "--disk-format", "raw")


def test_inspect(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "inspect_disk", lambda *arguments: REPORT)
    shown = shell("image", "inspect", *DISK, "-f", "json").json
    assert (shown["virtual_size"], shown["operating_systems"][0]["cloud_init"]) == (2**30, True)
    table = shell("image", "inspect", *DISK).stdout
    assert "distribution=debian" in table and "1.0 GiB" in table
    assert shell.connections == []


@pytest.mark.parametrize(
    ("error", "advice"),
    [(StorageError("not installed"), "libguestfs-test-tool"), (DeadlineExceeded("not in time"), "--timeout")],
)
def test_what_went_wrong(shell: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str) -> None:
    def refuse(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(report, "inspect_disk", refuse)
    run = shell("image", "inspect", *DISK)
    assert (run.status, str(error) in run.stderr, advice in run.advice) == (1, True, True)


def test_put(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(changes, "change_disk", lambda *arguments: seen.append(arguments))
    motd, key = tmp_path / "motd", tmp_path / "key.pub"
    motd.write_text("hello")
    key.write_text("ssh-ed25519 AAAA me\n")
    reader, writer = os.pipe()
    os.write(writer, b"correct horse\n")
    os.close(writer)
    put = ["--copy", f"{motd}:/etc/motd", "--ssh-key", f"root:{key}", "--password", "root", "--password-fd"]
    assert shell("image", "put", *DISK, *put, str(reader)).status == 0
    os.close(reader)
    ((path, disk_format, ordered, _, seconds),) = seen
    assert (path, disk_format, seconds) == (Path("disk.raw"), "raw", 300.0)
    assert ordered == Changes(
        files=[(motd, "/etc/motd")],
        ssh_keys=[("root", "ssh-ed25519 AAAA me")],
        passwords=[("root", "correct horse")],
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "nothing to put"),
        (("--copy", "/etc/hostname:etc"), "absolute path"),
        (("--ssh-key", "root"), "USER:KEYFILE"),
        (("--ssh-key", "root:/etc/passwd"), "not one public key"),
        (("--password", "root", "--password-fd", "99"), "cannot be read"),
    ],
)
def test_put_what_cannot_be(
    shell: Shell, words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell("image", "put", *DISK, *words)
    assert (run.status, reason in run.stderr + capsys.readouterr().err) == (2, True)
