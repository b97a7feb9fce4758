"""What can be said about disks' contents without the appliance: its language, its absence, and how long it may take."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, DiskInUse, StorageError
from compute_agent.storage.offline import appliance
from compute_agent.storage.offline.appliance import Appliance
from compute_agent.storage.offline.changes import hashed
from compute_agent.storage.offline.workspace import copied, replace, require_unused

from .making import make_qcow2

# A guestfish as far as its language goes: it answers what it was asked, line by line, and knows no "wrong".
STAND_IN = r"""#!/bin/sh
while read -r line; do
    case "$line" in
        -wrong*) echo '*stdin*:3: libguestfs: error: wrong: what you say' ;;
        -hang) exec sleep 60 ;;
        -end) echo 'out of memory'; exit 1 ;;
        echo\ *) printf '%s\n' "${line#echo }" ;;
        -*) printf '%s\n' "${line#-}" ;;
    esac
done
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, not confined: that needs root."""
    path = tmp_path / "guestfish"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    (tmp_path / appliance.WORK).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(appliance, "_CONFINEMENT", "unshare --user --map-current-user --pid --fork --kill-child")
    return path


def opened(program: Path, seconds: float = 10.0) -> Appliance:
    return Appliance(program.with_name("disk"), "raw", time.monotonic() + seconds)


def test_questions_and_answers(program: Path) -> None:
    with opened(program) as disk:
        assert disk.ask("cat", 'a "b" \\ !c') == ['cat "a \\"b\\" \\\\ !c"']
        assert disk.find("wrong") is None
        with pytest.raises(StorageError, match="wrong: wrong: what you say"):
            disk.ask("wrong")
        assert disk.ask("list-filesystems") == ["list-filesystems"]


@pytest.mark.parametrize("argument", ["/a\n!rm -rf /", "\t", "\0"])
def test_what_could_be_another_command(program: Path, argument: str) -> None:
    with opened(program) as disk, pytest.raises(StorageError, match="control characters"):
        disk.ask("cat", argument)


def test_one_that_ends(program: Path) -> None:
    with opened(program) as disk, pytest.raises(StorageError, match=r"has ended, .*: out of memory"):
        disk.ask("end")


def test_one_that_hangs_is_killed(program: Path) -> None:
    began = time.monotonic()
    with opened(program, 0.5) as disk, pytest.raises(DeadlineExceeded):
        disk.ask("hang")
    assert time.monotonic() - began < 5
    assert disk._process.returncode is not None


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="guestfish is not installed: it is in the package guestfish"):
        opened(tmp_path / "guestfish").__enter__()


def test_only_root_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StorageError, match="root"), copied(tmp_path / "disk", "raw", tmp_path, time.monotonic() + 1):
        pass


def test_passwords_are_hashed_with_salt() -> None:
    first, second = hashed("correct horse"), hashed("correct horse")
    assert first != second
    command = ["openssl", "passwd", "-6", "-salt", first.split("$")[2], "correct horse"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == first


def test_a_disk_under_others_is_not_changed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make_qcow2(disk)
    require_unused(disk)
    (tmp_path / "link").hardlink_to(disk)
    with pytest.raises(DiskInUse):
        require_unused(disk)


def test_a_copy_takes_the_place_as_it_was(tmp_path: Path) -> None:
    disk, changed = tmp_path / "disk", tmp_path / "changed"
    make_qcow2(disk)
    disk.chmod(0o640)
    content = make_qcow2(changed, size="32M")
    replace(disk, changed, "qcow2")
    assert (disk.read_bytes(), disk.stat().st_mode & 0o777) == (content, 0o640)


def test_a_copy_that_became_something_else_is_refused(tmp_path: Path) -> None:
    disk, changed = tmp_path / "disk", tmp_path / "changed"
    content = make_qcow2(disk)
    make_qcow2(changed, "-u", "-F", "raw", "-b", "/etc/passwd")
    with pytest.raises(StorageError, match="refused"):
        replace(disk, changed, "qcow2")
    assert disk.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "changed"}
