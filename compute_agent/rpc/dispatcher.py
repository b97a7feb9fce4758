"""From an incoming call to the agent's answer.

oslo.messaging's own dispatcher is not used: it answers an unknown verb, a wrong version or arguments that are no
object with an exception of its own, logged with a traceback, that names no field.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from oslo_messaging.dispatcher import DispatcherBase
from oslo_messaging.rpc import ExpectedException

from compute_agent.agent.log_context import logging_about
from compute_agent.agent.request import Request
from compute_agent.errors import ComputeAgentError, InvalidMessage
from compute_agent.rpc.api import Api
from compute_agent.rpc.decode import decode, shown
from compute_agent.rpc.messages import RPC_VERSION, VERBS, Change

LOG = logging.getLogger(__name__)


class Dispatcher(DispatcherBase):  # type: ignore[misc]
    """Decodes a call, has the agent carry it out, encodes the answer."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def dispatch(self, incoming: Any) -> object:
        """Called by oslo.messaging in a thread of its pool, once for each call.

        :raises Refusal: what the caller gets instead of an answer.
        """
        call = incoming.message
        arguments = call.get("args", {})
        with logging_about(_text(arguments, "request_id"), _text(arguments, "instance_uuid")):
            try:
                return self.answer(call.get("version"), call.get("method"), arguments)
            except ComputeAgentError as error:
                LOG.info("Refused %s: %s", _verb(call), error)
                raise Refusal(error) from None
            except Exception as error:  # the edge: the caller is told, the agent goes on
                LOG.exception("Failed while answering %s", _verb(call))
                raise Refusal(ComputeAgentError(f"internal error of the agent: {type(error).__name__}")) from None

    def answer(self, version: object, verb: object, arguments: object) -> object:
        """What the agent says to one call, in plain JSON values.

        :raises ComputeAgentError: the agent, or the message's schema, refuses it.
        """
        if version != RPC_VERSION:
            raise InvalidMessage("version", shown(version), f"this agent speaks RPC {RPC_VERSION}")
        if not isinstance(verb, str) or verb not in VERBS:
            raise InvalidMessage("method", shown(verb), f"RPC {RPC_VERSION} has no such verb")
        if not isinstance(arguments, Mapping):
            raise InvalidMessage("args", type(arguments).__name__, "expected an object")
        message = decode(verb, arguments)
        if isinstance(message, Change):
            return msgspec.to_builtins(self._api.submit(request_of(verb, message)))
        return msgspec.to_builtins(getattr(self._api, verb)(**msgspec.structs.asdict(message)))


class Refusal(ExpectedException):  # type: ignore[misc]
    """Carries an error to the caller: its class and arguments, but no traceback and no cause."""

    def __init__(self, error: ComputeAgentError) -> None:
        self.exc_info = (type(error), type(error)(*error.args), None)


def request_of(verb: str, change: Change) -> Request:
    """The agent's request for a message that changes something."""
    arguments = msgspec.structs.asdict(change)
    request_id, instance = arguments.pop("request_id"), arguments.pop("instance", None)
    return Request(
        request_id=request_id,
        operation="boot" if instance else verb.removesuffix("_instance"),
        instance_uuid=instance.uuid if instance else arguments.pop("instance_uuid"),
        arguments=msgspec.to_builtins(arguments),
        instance=instance,
    )


def _verb(call: Mapping[str, object]) -> str:
    """For the log, before it is known to be one: no line of it is the sender's."""
    verb = call.get("method")
    return verb if isinstance(verb, str) and verb in VERBS else "what is no verb"


def _text(arguments: object, name: str) -> str:
    """A field for the log, before it is known to be good."""
    value = arguments.get(name) if isinstance(arguments, Mapping) else None
    return value if isinstance(value, str) and len(value) == 36 and value.isprintable() else "-"
