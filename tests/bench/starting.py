"""Runs in a virtual host: how long a guest takes from the order to user space, by the agent and by hand.

Reads JSON: ``transport_url``, ``host``, ``instances`` (running ones, by their hypervisors' names), ``rounds``, and
``command`` and ``console`` of a QEMU by hand. Prints JSON: the seconds of each round, by the same names and ``hand``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compute_agent.rpc.client import ComputeClient
from compute_agent.rpc.transport import connect

_SECONDS = 120.0


def await_ready(console: Path) -> None:
    """Until the guest says on its console that it is up. It has not begun to print when this begins to listen."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(_SECONDS)
        while stream.connect_ex(str(console)):
            time.sleep(0.01)
        said = b""
        while b"GUEST READY" not in said:
            chunk = stream.recv(65536)
            assert chunk, f"the console was closed after {said!r}"
            said += chunk


def by_agent(client: ComputeClient, instance_uuid: str) -> Callable[[], float]:
    """Starts an instance, and stops it again. It runs, and is stopped first."""
    console = Path(client.get_serial_console(instance_uuid)["path"])

    def stop() -> None:
        client.wait(client.stop_instance(instance_uuid, timeout=0).request_id, _SECONDS)

    def measure() -> float:
        began = time.monotonic()
        client.start_instance(instance_uuid)
        await_ready(console)
        took = time.monotonic() - began
        stop()
        return took

    stop()
    return measure


def by_hand(command: list[str], console: Path) -> Callable[[], float]:
    """Starts QEMU, and kills it."""

    def measure() -> float:
        console.unlink(missing_ok=True)
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        await_ready(console)
        took = time.monotonic() - began
        os.kill(process.pid, signal.SIGKILL)
        process.wait(_SECONDS)
        return took

    return measure


def main(order: dict[str, Any]) -> None:
    """Turn by turn."""
    client = ComputeClient(connect(order["transport_url"]), order["host"], _SECONDS)
    ways = {name: by_agent(client, uuid) for name, uuid in order["instances"].items()}
    ways["hand"] = by_hand(order["command"], Path(order["console"]))
    times = defaultdict(list)
    for _ in range(order["rounds"]):
        for name, measure in ways.items():
            times[name].append(measure())
    print(json.dumps(times), flush=True)
    os._exit(0)  # threads of the connection to the broker are not waited for


if __name__ == "__main__":
    main(json.load(sys.stdin))
