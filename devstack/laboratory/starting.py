"""`lab up`: starts a keeper in namespaces of its own, and tells what it says until the lab is up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from laboratory import image, record
from laboratory.settings import HostSettings
from sandbox.commands import SandboxError
from sandbox.images import kernel, ramdisk
from sandbox.namespaces import OUTSIDE_NETWORK
from sandbox.narrator import Narrator

_ENTER = Path(__file__).parents[1] / "sandbox/enter"
_END_TIMEOUT = 10.0


def start(hosts: int, settings: HostSettings, offers: Sequence[str], narrator: Narrator) -> None:
    """Return when all agents serve.

    :raises SandboxError: nothing is left running.
    """
    with record.reserve() as file, _record_removed_on_failure():
        _make_images(narrator)
        order = json.dumps({"hosts": hosts, "settings": asdict(settings), "offers": offers})
        with _keeper(order, file) as keeper:
            assert keeper.stdout is not None
            description = _follow(keeper.stdout, narrator)
        record.write(file, record.Record(pid=keeper.pid, **description))


def _make_images(narrator: Narrator) -> None:
    """Here, because a keeper that is started in another sandbox has no way to the internet."""
    narrator.say("kernels: from Debian's packages (the first time takes a minute)")
    for make in (image.kernel, image.ramdisk, kernel, ramdisk):
        make()


@contextmanager
def _keeper(order: str, file: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """It keeps `file`, and with it the lock, as long as it lives. On failure, and on Ctrl-C, it is ended."""
    keeper = subprocess.Popen(
        [_ENTER, sys.executable, "-m", "laboratory.keeper", order],
        env={name: text for name, text in os.environ.items() if name != OUTSIDE_NETWORK},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[file.fileno()],
        text=True,
        start_new_session=True,
    )
    try:
        yield keeper
    except BaseException:
        keeper.terminate()
        keeper.wait(_END_TIMEOUT)
        raise


def _follow(output: IO[str], narrator: Narrator) -> dict[str, Any]:
    """What the keeper says of the lab once it is up."""
    for line in output:
        if not line.startswith("{"):
            narrator.quote(line)
            continue
        message = json.loads(line)
        if "up" in message:
            return dict(message["up"])
        if "failed" in message:
            raise SandboxError(message["failed"])
        narrator.say(message["say"])
    raise SandboxError("the process that keeps the lab has ended")


@contextmanager
def _record_removed_on_failure() -> Iterator[None]:
    try:
        yield
    except BaseException:
        record.remove()
        raise
