"""What is known of a process, and held of it, when it has ended."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.host.process_watch import ProcessWatch
from compute_agent.host.processes import Process


@pytest.fixture
def watch() -> Iterator[ProcessWatch]:
    watch = ProcessWatch()
    yield watch
    watch.close()


def a_process() -> Process:
    child = subprocess.Popen(["sleep", "60"])
    return Process(child.pid, os.pidfd_open(child.pid), child)


def pidfds() -> set[str]:
    descriptors = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return {path.name for path in descriptors if "pidfd" in str(path.readlink())}


def end(watch: ProcessWatch, process: Process) -> None:
    """Returns when the watch has done with it: it tells of one process after the other."""
    another = a_process()
    for each in (process, another):
        told = threading.Event()
        watch.watch(each, told.set)
        each.kill()
        assert told.wait(10)


def test_nothing_is_held_open_of_a_process_that_has_ended_whoever_refers_to_it(watch: ProcessWatch) -> None:
    process = a_process()
    descriptor = str(process.pidfd)
    assert descriptor in pidfds()
    end(watch, process)
    assert descriptor not in pidfds()


def test_a_process_that_was_released_has_ended_for_everybody(watch: ProcessWatch) -> None:
    process = a_process()
    end(watch, process)
    process.kill()
    assert process.has_ended()
    assert process.wait(60)
    assert process.exit_reason() == "ended by SIGKILL"
    with pytest.raises(ProcessLookupError):
        process.copy_descriptor(0)
