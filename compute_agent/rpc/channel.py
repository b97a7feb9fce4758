"""One call to one host's agent: an answer, or an error of ours, within a known time."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import Any

import oslo_messaging
from oslo_messaging.transport import RPCTransport

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, HostError
from compute_agent.rpc.messages import EXCHANGE, RPC_VERSION, TOPIC
from compute_agent.rpc.transport import RETRIES, broker_errors, broker_of

_KEEP_ON_WIRE = oslo_messaging.TransportOptions(at_least_once=True)
"""The broker says so when nobody ever made the queue; else a message to nobody is lost in silence."""


class Channel:
    """Calls the verbs of the agent on `host`."""

    def __init__(self, transport: RPCTransport, host: str, timeout: float) -> None:
        """`timeout` in seconds, for each answer."""
        self._transport = transport
        self._host = host
        self._timeout = timeout
        target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=host, version=RPC_VERSION)
        self._client = oslo_messaging.get_rpc_client(
            transport, target, timeout=timeout, retry=RETRIES, transport_options=_KEEP_ON_WIRE
        )
        self._connecting = Lock()
        self._connected = False

    def call(self, verb: str, arguments: dict[str, Any]) -> Any:
        """The agent's answer in plain JSON values.

        :raises HostError: the broker cannot be reached, or no agent ever served this host.
        :raises DeadlineExceeded: no answer in time.
        :raises ComputeAgentError: of the class that the agent raised.
        """
        try:
            with broker_errors(self._transport):
                self._connect()
                return self._client.call({}, verb, **arguments)
        except ComputeAgentError as error:
            raise _as_raised(error) from None
        except oslo_messaging.RemoteError as error:
            raise ComputeAgentError(f"agent on {self._host}: {error.exc_type}: {error.value}") from None
        except oslo_messaging.MessagingTimeout:
            raise DeadlineExceeded(f"agent on {self._host} gave no answer to {verb} in {self._timeout:g} s") from None
        except oslo_messaging.MessageUndeliverable:
            raise HostError(f"no agent serves host {self._host!r} (broker {broker_of(self._transport)})") from None

    def _connect(self) -> None:
        """Fail soon where the broker is not there.

        A call makes a queue for its answers first, and for that oslo.messaging tries to connect for ever. A cast
        keeps to `RETRIES`; this one is addressed to nobody.
        """
        with self._connecting:
            if self._connected:
                return
            nobody = self._client.prepare(topic=f"{TOPIC}-probe", server=None)
            with suppress(oslo_messaging.MessageUndeliverable):
                nobody.cast({}, "probe")
            self._connected = True


def _as_raised(error: ComputeAgentError) -> ComputeAgentError:
    """oslo.messaging hands over a subclass whose text ends in a traceback: the same error without it."""
    kind = type(error)
    while kind.__name__.endswith("_Remote"):
        (kind,) = kind.__bases__
    return kind(*error.args)
