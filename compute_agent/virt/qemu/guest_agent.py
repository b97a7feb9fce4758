"""The guest agent of a guest's system (qemu-ga), over the channel that its machine has for it.

Source: QEMU, docs/interop/qemu-ga-ref and qga/qapi-schema.json. One line of JSON a message; the stream may begin with
what an earlier client has left in it, so a client first asks for a number of its own to be sent back.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Mapping
from typing import Any

from compute_agent.errors import DeadlineExceeded, MonitorError

_SENTINEL = b"\xff"
"""Never part of JSON: what comes before it was meant for somebody else."""
_LARGEST_ANSWER = 1 << 20
"""Bytes; the guest may send anything."""


class GuestAgent:
    """One connection. What it says is the guest's, and is believed no further than that."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = b""

    def synchronize(self, seconds: float) -> None:
        """Find out that somebody answers, and skip what was not meant for us.

        :raises DeadlineExceeded: nobody does.
        :raises OSError: the channel is closed.
        """
        number = random.randrange(1 << 31)
        due = time.monotonic() + seconds
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._channel.sendall(_SENTINEL + json.dumps(request).encode() + b"\n")
        while _parse(self._next_line(due).rpartition(_SENTINEL)[2]).get("return") != number:
            pass

    def ask(self, command: str, seconds: float) -> Any:
        """What the guest returns.

        :raises MonitorError: it refuses.
        :raises DeadlineExceeded: it does not answer within `seconds`; it may do so later.
        :raises OSError: the channel is closed.
        """
        due = time.monotonic() + seconds
        self._channel.sendall(json.dumps({"execute": command}).encode() + b"\n")
        answer = _parse(self._next_line(due))
        if "return" not in answer:
            raise MonitorError(f"{command}: {str(answer.get('error'))[:200]}")
        return answer["return"]

    def _next_line(self, due: float) -> bytes:
        if time.monotonic() > due:
            raise DeadlineExceeded("the guest agent says much, and nothing that was asked for")
        while b"\n" not in self._received:
            self._channel.settimeout(max(0.001, due - time.monotonic()))
            try:
                chunk = self._channel.recv(65536)
            except TimeoutError:
                raise DeadlineExceeded("the guest agent does not answer") from None
            if not chunk or len(self._received) > _LARGEST_ANSWER:
                raise ConnectionResetError("the guest agent's channel is closed")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


def _parse(line: bytes) -> Mapping[str, Any]:
    """Empty where it is no object: half a message to an earlier client, or worse."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
