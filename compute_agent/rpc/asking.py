"""How a controller's calls reach an agent and come back."""

from __future__ import annotations

import uuid
from typing import TypeVar

import msgspec
from oslo_messaging.transport import RPCTransport

from compute_agent.instance.preparation import prepare
from compute_agent.instance.view import Accepted
from compute_agent.rpc.channel import Channel

prepare(Accepted)

T = TypeVar("T")


class Asking:
    """What the verbs of a client stand on."""

    def __init__(self, transport: RPCTransport, host: str, timeout: float = 10.0) -> None:
        """`timeout` in seconds, for each answer. Connects with the first call."""
        self.transport = transport
        self.host = host
        self._channel = Channel(transport, host, timeout)

    def close(self) -> None:
        """Let go of the broker."""
        self.transport.cleanup()

    def _change(self, verb: str, request_id: str | None, **arguments: object) -> Accepted:
        return self._ask(Accepted, verb, request_id=request_id or str(uuid.uuid4()), **arguments)

    def _ask(self, answer: type[T], verb: str, **arguments: object) -> T:
        plain = {name: msgspec.to_builtins(value) for name, value in arguments.items()}
        return msgspec.convert(self._channel.call(verb, plain), answer)
