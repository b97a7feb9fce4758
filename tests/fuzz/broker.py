"""Hostile messages on a real broker: bytes of any kind in the agent's queue, and calls past the typed client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from urllib.parse import urlsplit

import amqp

from compute_agent.errors import ComputeAgentError, DeadlineExceeded
from compute_agent.rpc.messages import EXCHANGE, TOPIC
from tests.fuzz.messages import a_call
from tests.fuzz.mutation import any_value, spoil_bytes, spoil_json

_SPOILED = 0.7
_TYPES = (
    "application/json",
    "application/json",
    "application/json",
    "text/plain",
    "application/x-python-serialize",
    "",
)
_ENCODINGS = ("utf-8", "utf-8", "binary", "utf-7", "none", "")


def publish_all(transport_url: str, host: str, random: Random, count: int) -> None:
    """So many messages, none of which anybody waits for an answer to."""
    url = urlsplit(transport_url)
    connection = amqp.Connection(
        f"{url.hostname}:{url.port}", url.username, url.password, virtual_host=url.path.lstrip("/") or "/"
    )
    with connection, connection.channel() as channel:
        for message in _messages(random, count):
            channel.basic_publish(message, EXCHANGE, f"{TOPIC}.{host}")


def _messages(random: Random, count: int) -> Iterator[amqp.Message]:
    for _ in range(count):
        properties: dict[str, Any] = {
            "content_type": random.choice(_TYPES),
            "content_encoding": random.choice(_ENCODINGS),
        }
        yield amqp.Message(_body(random), **properties)


def _body(random: Random) -> bytes:
    """oslo.messaging's envelope, which holds a message as text, which holds a call; any of them spoiled."""
    if random.random() < 0.1:
        return random.randbytes(random.randint(0, 300))
    call = {**a_call(random), **_delivery(random)}
    envelope: dict[str, Any] = {"oslo.version": "2.0", "oslo.message": _text(call)}
    if random.random() < 0.3:
        spoil_json(random, envelope, 1)
    content = _text(envelope).encode(errors="surrogatepass")
    return spoil_bytes(random, content, 2) if random.random() < _SPOILED else content


def _delivery(random: Random) -> dict[str, Any]:
    """Where an answer would go: to a queue that is not there, or nowhere."""
    fields: dict[str, Any] = {"_unique_id": uuid.UUID(int=random.getrandbits(128)).hex}
    if random.random() < 0.3:
        fields |= {
            "_msg_id": any_value(random),
            "_reply_q": random.choice((any_value(random), f"reply_{random.random()}")),
        }
    if random.random() < 0.1:
        fields["_context_x"] = any_value(random)
    return fields


def _text(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 50_000 + "]" * 50_000


def call_all(call: Callable[..., Any], random: Random, count: int) -> None:
    """So many calls; each is answered, or refused with an error of ours that is for just that."""
    for _ in range(count):
        one = a_call(random)
        try:
            arguments = {name: value for name, value in one["args"].items() if isinstance(name, str)}
            json.dumps(arguments)
            call(str(one["method"]), **arguments)
        except (AttributeError, RecursionError, UnicodeEncodeError):
            continue  # what not even this client can send
        except ComputeAgentError as error:
            kind = next(one.__name__ for one in type(error).__mro__ if not one.__name__.endswith("_Remote"))
            assert kind != "ComputeAgentError", f"{error} to {one}"
            assert not isinstance(error, DeadlineExceeded), f"{error} to {one}"
