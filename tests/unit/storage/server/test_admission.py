"""A file is a server's only for as long as it is being opened, whatever dies meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from compute_agent.storage.server.admission import Admissions, take_back
from compute_agent.storage.server.paths import ServerPaths


@pytest.fixture
def paths(tmp_path: Path) -> ServerPaths:
    """Of a server whose user is this one: who is not root can give files to nobody else."""
    paths = ServerPaths(tmp_path / "servers" / "one")
    paths.run.mkdir(parents=True)
    return paths


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "volume"
    file.touch()
    file.chmod(0o440)
    return file


def mode_of(file: Path) -> int:
    return file.stat().st_mode & 0o7777


def die_over(file: Path, paths: ServerPaths) -> None:
    """An agent is killed while a server opens the file."""
    agent = os.fork()
    if agent == 0:
        try:
            with Admissions().admitted(paths, file, os.open(file, os.O_RDONLY), read_only=False):
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(agent, 0)[1] == 0


@pytest.mark.parametrize(("read_only", "meanwhile"), [(True, 0o440), (False, 0o640)])
def test_the_file_is_as_before(paths: ServerPaths, file: Path, read_only: bool, meanwhile: int) -> None:
    fd = os.open(file, os.O_RDONLY)
    with Admissions().admitted(paths, file, fd, read_only=read_only):
        assert mode_of(file) == meanwhile
    os.close(fd)
    assert mode_of(file) == 0o440
    assert not paths.admission.exists()


def test_the_next_agent_takes_back_what_was_given(paths: ServerPaths, file: Path) -> None:
    die_over(file, paths)
    assert mode_of(file) == 0o640
    take_back(paths.admission)
    assert mode_of(file) == 0o440
    assert not paths.admission.exists()


def test_another_file_of_that_name_stays_as_it_is(paths: ServerPaths, file: Path) -> None:
    die_over(file, paths)
    file.rename(file.with_name("elsewhere"))
    file.touch(mode=0o600)
    take_back(paths.admission)
    assert mode_of(file) == 0o600
    assert not paths.admission.exists()


def test_an_image_is_opened_by_one_server_after_the_other(paths: ServerPaths, file: Path) -> None:
    other, admissions, second_in = ServerPaths(paths.run.with_name("two")), Admissions(), threading.Event()
    other.run.mkdir()

    def admit_second() -> None:
        fd = os.open(file, os.O_RDONLY)
        with admissions.admitted(other, file, fd, read_only=True):
            second_in.set()
        os.close(fd)

    fd = os.open(file, os.O_RDONLY)
    with admissions.admitted(paths, file, fd, read_only=False):
        second = threading.Thread(target=admit_second)
        second.start()
        assert not second_in.wait(0.05)
    assert second_in.wait(10)
    second.join()
    os.close(fd)
    assert mode_of(file) == 0o440
