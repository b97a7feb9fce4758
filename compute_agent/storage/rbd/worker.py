"""The worker process: ``python -m compute_agent.storage.rbd.worker SOCKET KEY CLUSTER CONF USER``.

It holds one connection to one cluster, and does one call after the other: a line of JSON each way. SOCKET is the
descriptor on which the agent asks, KEY one to read the user's key from. When the agent hangs up, it ends, after the
call that it is in; but soon, for that may be one that never returns.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from compute_agent.storage.rbd import facts, images, locks, snapshots
from compute_agent.storage.rbd.binding import Connection
from compute_agent.storage.rbd.refusals import InUse, Refused

_LAST_CALL = 5.0
"""Seconds. What is open when it ends stays so to the cluster for 30 s, and in the next agent's way."""

VERBS: Mapping[str, Callable[..., Any]] = {
    "create": images.create,
    "clone": images.clone,
    "exists": images.exists,
    "info": facts.info,
    "remove": images.remove,
    "rename": images.rename,
    "resize": images.resize,
    "flatten": images.flatten,
    "list_images": images.list_images,
    "watchers": facts.watchers,
    "get_mark": facts.get_mark,
    "set_mark": facts.set_mark,
    "create_snapshot": snapshots.create,
    "remove_snapshot": snapshots.remove,
    "rollback": snapshots.rollback,
    "list_snapshots": snapshots.list_snapshots,
    "take": locks.take,
    "release": locks.release,
    "holder": locks.holder,
    "writers": locks.writers,
    "break_writers": locks.break_writers,
    "capacity": facts.capacity,
    "monitors": facts.monitors,
    "fsid": Connection.fsid,
    "block": Connection.block,
}


def main(arguments: Sequence[str]) -> None:
    """Serve the agent that is at the other end of the socket."""
    control, key, cluster_name, conf, user = arguments
    with socket.socket(fileno=int(control)) as agent, agent.makefile("rwb") as stream:
        threading.Thread(target=_end_with, args=[agent], daemon=True).start()
        with os.fdopen(int(key)) as reader:
            secret = reader.read()
        connected = _attempt(lambda: Connection(cluster_name, conf, user, secret))
        cluster = connected.get("result")
        _send(stream, {"result": cluster.address()} if cluster else connected)
        while cluster and (line := stream.readline()):
            _send(stream, _serve(cluster, json.loads(line)))


def _serve(cluster: Connection, call: Mapping[str, Any]) -> dict[str, Any]:
    return _attempt(lambda: VERBS[call["verb"]](cluster, **call["arguments"]))


def _attempt(work: Callable[[], Any]) -> dict[str, Any]:
    """The result; or which kind of error it was, with the cluster's words."""
    try:
        return {"result": work()}
    except Refused as error:
        return {"error": "in_use" if isinstance(error, InUse) else "refused", "reason": str(error)}
    except OSError as error:
        return {"error": "failed", "reason": error.strerror or str(error)}


def _end_with(agent: socket.socket) -> None:
    poll = select.poll()
    poll.register(agent, select.POLLRDHUP)
    poll.poll()
    time.sleep(_LAST_CALL)
    os._exit(0)


def _send(stream: Any, answer: Mapping[str, Any]) -> None:
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()


if __name__ == "__main__":
    with suppress(ConnectionError):  # the agent hung up while it was answered
        main(sys.argv[1:])
    os._exit(0)  # without a good-bye to the cluster, which might not answer
