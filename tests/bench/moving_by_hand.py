"""One side of two QEMUs between which a guest moves, as a person would do it over QMP; a program in a virtual host.

Reads JSON: ``side``, ``command`` of the QEMU (without where it comes in), ``monitor``, ``tap`` (null: none), ``peer``
and ``port``.
Prints JSON: the seconds that the destination took to be ready; of the source, QEMU's own ``total-time`` and
``downtime`` in seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_SECONDS = 120.0


class Monitor:
    """A connection to a QEMU's."""

    def __init__(self, path: str) -> None:
        """Waits until QEMU listens."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        due = time.monotonic() + _SECONDS
        while self._socket.connect_ex(path):
            assert time.monotonic() < due, f"{path}: nobody listens"
            time.sleep(0.01)
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """What it returns."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "return" not in (said := json.loads(self._stream.readline())):
            assert "error" not in said, said
        return said["return"]


def be_ready(order: dict[str, Any]) -> dict[str, float]:
    """A tap on the switch, and a QEMU that waits; what was here before ends."""
    end(order)
    began = time.monotonic()
    if order["tap"] is not None:
        _plug(order["tap"])
    incoming = ["-incoming", f"tcp:0.0.0.0:{order['port']}"] if order["port"] else []
    subprocess.run([*order["command"], *incoming, "-daemonize"], check=True, timeout=_SECONDS)
    Monitor(order["monitor"]).ask("query-status")
    return {"ready": time.monotonic() - began}


def _plug(tap: str) -> None:
    for words in (
        ["ip", "tuntap", "add", tap, "mode", "tap", "vnet_hdr"],
        ["ip", "link", "set", tap, "up"],
        ["ovs-vsctl", "--may-exist", "add-port", "br-int", tap],
    ):
        subprocess.run(words, check=True, timeout=_SECONDS)


def _unplug(tap: str) -> None:
    subprocess.run(["ovs-vsctl", "--if-exists", "del-port", tap], check=True, timeout=_SECONDS)
    subprocess.run(["ip", "link", "del", tap], check=False, stderr=subprocess.DEVNULL, timeout=_SECONDS)


def move(order: dict[str, Any]) -> dict[str, float]:
    """To the one that waits, as fast as it goes."""
    monitor = Monitor(order["monitor"])
    monitor.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 50})
    monitor.ask("migrate", uri=f"tcp:{order['peer']}:{order['port']}")
    while (state := monitor.ask("query-migrate"))["status"] != "completed":
        assert state["status"] not in ("failed", "cancelled"), state
        time.sleep(0.02)
    end(order)
    return {"total": state["total-time"] / 1000, "down": state["downtime"] / 1000}


def end(order: dict[str, Any]) -> dict[str, float]:
    """Of the QEMU here, if there is one, with its tap."""
    pidfile = Path(order["monitor"]).with_suffix(".pid")
    with suppress(FileNotFoundError, ProcessLookupError):
        process = os.pidfd_open(int(pidfile.read_text()))
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], _SECONDS)
        os.close(process)
        pidfile.unlink()
    if order["tap"] is not None:
        _unplug(order["tap"])
    return {}


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    print(json.dumps({"ready": be_ready, "move": move, "end": end}[wanted["side"]](wanted)), flush=True)
