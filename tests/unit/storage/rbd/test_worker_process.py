"""The agent's side of the protocol, with a stand-in for the worker: a script that follows orders."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.storage.rbd import worker_process
from compute_agent.storage.rbd.credentials import ClusterUser, Credentials
from compute_agent.storage.rbd.worker_process import WorkerProcess

KEY = "AQBSdFhcGbTUDxAAoQF9ZLQ8V6w0PzIoMQ8gRA=="

_STAND_IN = """\
#!{python} -I
import json, os, socket, sys, time
*_, control, key, cluster, conf, user = sys.argv
stream = socket.socket(fileno=int(control)).makefile("rwb")
secret = os.read(int(key), 1000).decode()
def say(words):
    stream.write(words)
    stream.flush()
if cluster == "dead":
    say(b'{{"error": "failed", "reason": "Connection timed out"}}\\n')
    sys.exit()
say(b'{{"result": null}}\\n')
while line := stream.readline():
    call = json.loads(line)
    if call["verb"] == "hang":
        time.sleep(600)
    if call["verb"] == "die":
        sys.exit()
    answer = dict(call, secret=secret, words=[cluster, conf, user])
    for part in (json.dumps(answer).encode(), b"\\n"):
        say(part)
"""


@pytest.fixture(autouse=True)
def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker"
    script.write_text(_STAND_IN.format(python=sys.executable))
    script.chmod(0o700)
    monkeypatch.setattr(worker_process.sys, "executable", str(script))


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    worker = WorkerProcess(ClusterUser(auth_username="cinder"), CREDENTIALS)
    yield worker
    worker.kill()
    assert worker.has_ended()


CREDENTIALS = Credentials(conf=Path("/etc/ceph/ceph.conf"), key=KEY)


def test_calls_one_after_the_other(worker: WorkerProcess) -> None:
    for name in ("first", "second"):
        answer = worker.call("info", {"image": name}, 10)
        assert answer["arguments"] == {"image": name}
        assert answer["words"] == ["ceph", "/etc/ceph/ceph.conf", "cinder"]
        assert answer["secret"] == KEY


def test_a_long_answer(worker: WorkerProcess) -> None:
    name = "x" * 1_000_000
    assert worker.call("info", {"image": name}, 10)["arguments"] == {"image": name}


def test_no_answer_in_time(worker: WorkerProcess) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer after 0\.2 s"):
        worker.call("hang", {}, 0.2)
    assert time.monotonic() - began < 5
    assert worker.has_ended()


def test_a_worker_that_dies(worker: WorkerProcess) -> None:
    with pytest.raises(DeadlineExceeded, match="ended before it had answered"):
        worker.call("die", {}, 10)
    assert worker.has_ended()


def test_a_cluster_that_cannot_be_reached() -> None:
    user = ClusterUser(cluster_name="dead", auth_username="cinder")
    with pytest.raises(StorageError, match=r"dead cannot be reached as client\.cinder .*: Connection timed out"):
        WorkerProcess(user, CREDENTIALS)
