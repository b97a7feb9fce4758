"""qemu-img, told to fill an image in a cluster from a local file."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.secrets import readable_once

_MEMORY = 8 * 1024**3
"""Bytes of address space; librbd's threads reserve much more than they use."""
_KEY = "key"
_PERCENT = re.compile(rb"\((\d+)\.\d+/100%\)")
_CHUNK = 1 << 16
_LAST_BREATH = 10.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """The program `qemu_img`; each run may take `seconds`."""

    qemu_img: str
    seconds: float

    def fill(self, cluster: Cluster, source: FileSource, pool: str, image: str, progress: Progress) -> None:
        """Copy a file that was inspected into an image that reads as zeros and has the right size.

        :raises StorageError: it failed, or was not done in time; no process is left, and the image has some of it.
        """
        credentials = cluster.credentials()
        with readable_once(credentials.key) as key:
            target = _target(pool, image, conf=str(credentials.conf), user=cluster.user.auth_username)
            process = self._start(source, target, key)
        try:
            said = _follow(process, progress, time.monotonic() + self.seconds)
        finally:
            process.kill()
            process.communicate(timeout=_LAST_BREATH)
        if process.returncode != 0:
            reason = _reason(said) or f"not done within {self.seconds:g} s"
            raise StorageError(f"{pool}/{image} could not be filled from {source.path}: {reason}")

    def _start(self, source: FileSource, target: str, key: int) -> subprocess.Popen[bytes]:
        command = (
            *("prlimit", f"--as={_MEMORY}", "--core=0", self.qemu_img, "convert", "-p", "-W", "-m", "16"),
            *("--object", f"secret,id={_KEY},format=base64,file=/dev/fd/{key}"),
            *("-n", "--target-is-zero", "-t", "writeback"),
            *("-f", source.format, "-O", "raw", str(source.path), target),
        )
        return subprocess.Popen(
            command, pass_fds=[key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


def _target(pool: str, image: str, *, conf: str, user: str) -> str:
    options = {"driver": "rbd", "pool": pool, "image": image, "conf": conf, "user": user, "key-secret": _KEY}
    return "json:" + json.dumps({"driver": "raw", "file": options})


def _follow(process: subprocess.Popen[bytes], progress: Progress, deadline: float) -> bytes:
    """What it said, until it ends or the time is over."""
    said = b""
    for chunk in _chunks(process, deadline):
        said = (said + chunk)[-_CHUNK:]
        done = _PERCENT.findall(said)
        if done:
            progress(int(done[-1]))
    return said


def _chunks(process: subprocess.Popen[bytes], deadline: float) -> Iterator[bytes]:
    assert process.stdout is not None
    while select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(process.stdout.fileno(), _CHUNK)
        if not chunk:
            process.wait(_LAST_BREATH)
            return
        yield chunk


def _reason(said: bytes) -> str:
    lines = [line.strip() for line in re.split(rb"[\r\n]+", said) if line.strip() and not _PERCENT.search(line)]
    return lines[-1].decode(errors="replace")[-300:] if lines else ""
