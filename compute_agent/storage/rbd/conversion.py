"""qemu-img, told to fill an image in a cluster: as it is, or as the LUKS container that it holds."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.secrets import readable_once

_MEMORY = 8 * 1024**3
"""Bytes of address space; librbd's threads reserve much more than they use."""
_KEY, _PASSPHRASE = "key", "passphrase"
_PERCENT = re.compile(rb"\((\d+)\.\d+/100%\)")
_CHUNK = 1 << 16
_LAST_BREATH = 10.0

Node = Mapping[str, Any]
"""A block node as QEMU describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSnapshot:
    """Content that is in the same cluster already."""

    pool: str
    image: str
    snapshot: str


Content = FileSource | ClusterSnapshot
"""What an image can be filled from; a file was inspected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An image to be filled."""

    pool: str
    image: str
    passphrase: str | None = field(default=None, repr=False)
    """What is filled is the LUKS container that it holds."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The program `qemu_img`; each run may take `seconds`."""

    qemu_img: str
    seconds: float

    def fill(self, cluster: Cluster, source: Content, target: Target, progress: Progress) -> None:
        """Copy it to the beginning of an image that reads as zeros, or of a container, and that is large enough.

        :raises StorageError: it failed, or was not done in time; no process is left, and the image has some of it.
        """
        with ExitStack() as opened:
            secrets = {_KEY: opened.enter_context(readable_once(cluster.credentials().key))}
            if target.passphrase is not None:
                secrets[_PASSPHRASE] = opened.enter_context(readable_once(target.passphrase))
            process = self._start(_readable(source, cluster), _writable(target, cluster), secrets)
        try:
            said = _follow(process, progress, time.monotonic() + self.seconds)
        finally:
            process.kill()
            process.communicate(timeout=_LAST_BREATH)
        if process.returncode != 0:
            reason = _reason(said) or f"not done within {self.seconds:g} s"
            raise StorageError(f"{target.pool}/{target.image} could not be filled: {reason}")

    def _start(self, source: Node, target: Node, secrets: Mapping[str, int]) -> subprocess.Popen[bytes]:
        # A container that nobody has written to reads as noise.
        zero = ["--target-is-zero"] if target["driver"] == "raw" else []
        command = (
            *("prlimit", f"--as={_MEMORY}", "--core=0", self.qemu_img, "convert", "-p", "-W", "-m", "16"),
            *(word for name, fd in secrets.items() for word in ("--object", _secret(name, fd))),
            *("-n", *zero, "-t", "writeback", "-O", target["driver"], _json(source), _json(target)),
        )
        return subprocess.Popen(
            command,
            pass_fds=list(secrets.values()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def _secret(name: str, fd: int) -> str:
    return f"secret,id={name},file=/dev/fd/{fd}" + (",format=base64" if name == _KEY else "")


def _json(node: Node) -> str:
    return "json:" + json.dumps(node)


def _readable(source: Content, cluster: Cluster) -> Node:
    if isinstance(source, ClusterSnapshot):
        return {"driver": "raw", "file": _rbd(cluster, source.pool, source.image) | {"snapshot": source.snapshot}}
    node = {"driver": source.format, "file": {"driver": "file", "filename": str(source.path)}}
    return node | {"backing": None} if source.format == "qcow2" else node


def _writable(target: Target, cluster: Cluster) -> Node:
    image = _rbd(cluster, target.pool, target.image)
    if target.passphrase is None:
        return {"driver": "raw", "file": image}
    return {"driver": "luks", "key-secret": _PASSPHRASE, "file": image}


def _rbd(cluster: Cluster, pool: str, image: str) -> dict[str, Any]:
    address = {"conf": str(cluster.credentials().conf), "user": cluster.user.auth_username, "key-secret": _KEY}
    return {"driver": "rbd", "pool": pool, "image": image, **address}


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
