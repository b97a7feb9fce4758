"""What these tests have in common: the worker processes on this machine, a stranger's QEMU, something to upload."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.secrets import readable_once
from sandbox.ceph import Ceph
from tests.functional.guests import until

GIB = 1024**3
CALL_TIMEOUT = 4.0


def workers() -> list[int]:
    """The worker processes on this machine."""
    return [pid for pid, words in command_lines() if b"compute_agent.storage.rbd.worker" in words]


def has_ended(worker: int) -> bool:
    """With its last thread, whether the agent has noticed or not."""
    try:
        return os.waitid(os.P_PID, worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def command_lines() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def twice(verb: Callable[..., object], *arguments: object, **more: object) -> None:
    """As after a crash."""
    verb(*arguments, **more)
    verb(*arguments, **more)


@contextmanager
def opened(ceph: Ceph, cluster: Cluster, image: str) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU that has written to the image and keeps it open; it ends in good order unless it was killed."""
    target = (
        f'json:{{"driver":"raw","file":{{"driver":"rbd","pool":"{ceph.pool}","image":"{image}","conf":"{ceph.conf}",'
        f'"user":"{ceph.user}","key-secret":"key"}}}}'
    )
    with readable_once(cluster.credentials().key) as key:
        secret = f"secret,id=key,format=base64,file=/dev/fd/{key}"
        process = subprocess.Popen(
            ["stdbuf", "-oL", "qemu-io", "--object", secret, target],
            pass_fds=[key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            assert process.stdin is not None
            process.stdin.write(b"write 0 4k\n")
            process.stdin.flush()
            until(lambda: lock_owner(ceph, image), 20)
            yield process
            if process.poll() is None:
                process.communicate(timeout=20)


def lock_owner(ceph: Ceph, image: str) -> str:
    """Of librbd's own lock, as the ``rbd`` command tells."""
    return ceph.rbd("lock", "ls", f"{ceph.pool}/{image}").strip()


def make_content(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(os.urandom(8 * 1024**2))
        file.truncate(64 * 1024**2)
    return path
