"""What a RabbitMQ server lets us do, tried on a queue and an exchange of our own that vanish with the connection."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from amqp import Message
from amqp.exceptions import AccessRefused, AMQPError, NotFound, PreconditionFailed

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.doctor.settings import BrokerHost, BrokerSettings

_PREFIX = "compute_agent_doctor_"
"""The names that the agent uses begin like this: rights may depend on it."""
_MIB = 2**20
_SIZES = (1 * _MIB, 8 * _MIB, 64 * _MIB)
"""Of the messages tried, until one is refused; 64 MiB took an agent from 60 to 381 MiB of memory."""
_LEFTOVER_SECONDS = 60.0
"""After which a broker removes a queue of ours that we could not remove."""
_CONFIRM_SECONDS = 10.0

_GRANT = "on the broker: rabbitmqctl set_permissions -p '{vhost}' {user} '.*' '.*' '.*'"
_AGREE = (
    "the same amqp_durable_queues and rabbit_quorum_queue on all nodes; or on the broker: "
    "rabbitmqctl delete_queue -p '{vhost}' {queue}"
)
_LIMIT = "on the broker: max_message_size = 16777216 in rabbitmq.conf, then systemctl restart rabbitmq-server"


@dataclass(frozen=True, slots=True)
class Workbench:
    """A connection, and names on it that nobody else has."""

    connection: Any
    exchange: str
    queue: str


@contextmanager
def workbench(connection: Any) -> Iterator[Workbench]:
    """Nothing is made yet; what was is gone at the end: the queue is exclusive, the exchange is deleted."""
    name = f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        yield Workbench(connection, name, name)
    finally:
        with suppress(AMQPError, OSError):
            connection.channel().exchange_delete(name)


def check_rights(bench: Workbench, settings: BrokerSettings, host: BrokerHost) -> Finding:
    """Configure, write and read: the rights that RabbitMQ has, each needed for its part of a message's way."""
    channel = bench.connection.channel()
    try:
        channel.exchange_declare(bench.exchange, "direct", auto_delete=True)
        channel.queue_declare(bench.queue, exclusive=True, auto_delete=True)
        channel.queue_bind(bench.queue, bench.exchange, bench.queue)
        for exchange in (bench.exchange, ""):  # answers go through the nameless one
            channel.basic_publish_confirm(Message(b"?"), exchange, bench.queue, confirm_timeout=_CONFIRM_SECONDS)
            channel.basic_get(bench.queue, no_ack=True)
    except AccessRefused as error:
        return _without_right("broker-rights", error, settings, host)
    except TimeoutError:
        found = "it takes no messages: it has too little memory or disk space left, or is overloaded"
        return failure("broker-rights", found, "on the broker: rabbitmqctl status (its alarms); free disk space")
    channel.close()
    return ok("broker-rights", "may declare, bind, publish and consume")


def check_queues(connection: Any, settings: BrokerSettings, host: BrokerHost) -> Finding:
    """Are the agents' queues of the type that this agent will ask for? Would quorum queues be possible?"""
    try:
        disagreement = _disagreement(connection, settings)
    except AccessRefused as error:
        return _without_right("broker-queues", error, settings, host)
    if disagreement:
        remedy = _AGREE.format(vhost=settings.virtual_host, queue=settings.queue)
        return failure("broker-queues", disagreement, remedy)
    return judge_quorum(settings, _refusal_of_quorum(connection))


def judge_quorum(settings: BrokerSettings, refusal: str | None) -> Finding:
    """`refusal` is why a quorum queue could not be made."""
    if settings.quorum and refusal:
        found = f"quorum queues are configured and not possible: {refusal}"
        return failure("broker-queues", found, "set [oslo_messaging_rabbit] rabbit_quorum_queue = false")
    possible = f"quorum queues are {'not ' if refusal else ''}possible"
    if not settings.durable:
        found = f"lost when the broker dies, and calls that wait in them; {possible}"
        return warning("broker-queues", found, "set [oslo_messaging_rabbit] amqp_durable_queues = true")
    kind = "quorum" if settings.quorum else "classic, durable"
    return ok("broker-queues", f"{kind}; {possible}")


def check_messages(bench: Workbench) -> Finding:
    """How large may a message be? AMQP does not tell, but refuses what is too large before it looks for a queue."""
    for size in _SIZES:
        refusal = _refusal_of_message(bench, size)
        if refusal is not None:
            return judge_message_limit(refusal, size)
    found = f"takes one of {size // _MIB} MiB: reading it costs the agent 300 MiB of memory"
    return warning("broker-messages", found, _LIMIT)


def judge_message_limit(refusal: str, size: int) -> Finding:
    """What RabbitMQ said about a message of `size` bytes."""
    told = re.search(r"max size (\d+)", refusal)
    limit = f"{int(told[1]) / _MIB:g} MiB" if told else f"less than {size // _MIB} MiB"
    if size <= _SIZES[0]:
        return warning("broker-messages", f"takes at most {limit}: a boot request may be larger", _LIMIT)
    return ok("broker-messages", f"takes at most {limit}")


def _without_right(check: str, error: AccessRefused, settings: BrokerSettings, host: BrokerHost) -> Finding:
    remedy = _GRANT.format(vhost=settings.virtual_host, user=host.user)
    return failure(check, f"user {host.user} may not: {error.reply_text}", remedy)


def _disagreement(connection: Any, settings: BrokerSettings) -> str | None:
    """Asks for the shared queue as the agent does; only if it is there, so that nothing is made."""
    with suppress(NotFound):
        connection.channel().queue_declare(settings.queue, passive=True)
        try:
            connection.channel().queue_declare(
                settings.queue, durable=settings.durable, auto_delete=False, arguments=settings.queue_arguments
            )
        except PreconditionFailed as error:
            return str(error.reply_text)
    return None


def _refusal_of_quorum(connection: Any) -> str | None:
    """Why a quorum queue cannot be made. Such a queue cannot be exclusive, so it is deleted, or else expires."""
    name, channel = f"{_PREFIX}{uuid.uuid4().hex}", connection.channel()
    arguments = {"x-queue-type": "quorum", "x-expires": int(_LEFTOVER_SECONDS * 1000)}
    try:
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_delete(name)
    except AMQPError as error:
        return str(error.reply_text)
    return None


def _refusal_of_message(bench: Workbench, size: int) -> str | None:
    """It goes to an exchange from where no queue is reached, and is dropped there: no queue has to keep it."""
    message = Message(bytes(size))
    try:
        bench.connection.channel().basic_publish_confirm(
            message, bench.exchange, "nowhere", confirm_timeout=_CONFIRM_SECONDS
        )
    except PreconditionFailed as error:
        return str(error.reply_text)
    return None
