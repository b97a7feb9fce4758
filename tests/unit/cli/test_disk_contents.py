"""image inspect, image put: what is told, and what is refused before anything is touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.state import VmState
from compute_agent.storage.offline import changes, report
from compute_agent.storage.offline.changes import Changes
from compute_agent.storage.offline.report import DiskReport, FileSystem, OperatingSystem, Partition

from .conftest import WEB1, Shell
from .fake_client import an_instance

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


def stopped(shell: Shell, **changes: Any) -> None:
    view = an_instance(WEB1, "web1", block_devices=[BlockDevice(source_type="blank", size_gb=1)])
    shell.client.instances = [msgspec.structs.replace(view, **{"vm_state": VmState.STOPPED} | changes)]


def test_inspect_disk_of_instance(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped(shell)
    disk = tmp_path / "state/disks" / WEB1 / "disk0.qcow2"
    disk.parent.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True, timeout=20)
    config = tmp_path / "agent.conf"
    config.write_text(f"[DEFAULT]\ntransport_url = rabbit://b:1/\n[agent]\nstate_dir = {tmp_path}/state\n")
    seen: list[tuple[str, bool]] = []

    def look(file: Path, disk_format: str, *more: object) -> DiskReport:
        seen.append((disk_format, file.exists()))
        return REPORT

    monkeypatch.setattr(report, "inspect_disk", look)
    options = ("--config-file", str(config), "--host", "node1")
    words = ("image", "inspect", "--instance", "web1", "--work-dir", str(tmp_path))
    assert shell(*words, "-f", "json", options=options).json["virtual_size"] == 2**30
    assert seen == [("qcow2", True)]
    refused = shell(*words, "--disk", "disk1", options=options)
    assert (refused.status, "the instance has no such disk" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"vm_state": VmState.ACTIVE}, "is active: only a stopped one"), ({"task": "start"}, "is stopped (start)")],
)
def test_inspect_disk_of_instance_that_runs(shell: Shell, changes: dict[str, Any], reason: str) -> None:
    stopped(shell, **changes)
    run = shell("image", "inspect", "--instance", "web1")
    assert (run.status, reason in run.stderr, run.advice.endswith(" stop web1")) == (1, True, True)


@pytest.mark.parametrize("words", [(), (*DISK, "--instance", "web1"), ("disk.raw",)])
def test_inspect_what_is_not_said(shell: Shell, words: tuple[str, ...]) -> None:
    run = shell("image", "inspect", *words)
    assert (run.status, "needed" in run.stderr) == (2, True)
