"""What the doctor is told of the broker: options of oslo.messaging, which reads them itself elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg

from compute_agent.doctor.settings import BrokerHost, BrokerSettings
from compute_agent.errors import InvalidConfiguration
from compute_agent.rpc.messages import TOPIC

_PORT = 5672


def broker_settings(conf: cfg.ConfigOpts) -> BrokerSettings:
    """How the agent uses the broker.

    :raises InvalidConfiguration: the transport URL is not one of RabbitMQ.
    """
    try:
        url = oslo_messaging.TransportURL.parse(conf)
    except (oslo_messaging.InvalidTransportURL, ValueError) as error:
        raise _refused(str(error)) from None
    if url.transport != "rabbit":
        raise _refused(f"the transport is {url.transport}://, not rabbit://")
    rabbit = conf.oslo_messaging_rabbit
    return BrokerSettings(
        hosts=tuple(_host(host) for host in url.hosts or [oslo_messaging.TransportHost("localhost")]),
        virtual_host=url.virtual_host or "/",
        tls=rabbit.ssl,
        ca_file=_path(rabbit.ssl_ca_file),
        certificate_file=_path(rabbit.ssl_cert_file),
        key_file=_path(rabbit.ssl_key_file),
        durable=rabbit.amqp_durable_queues or rabbit.rabbit_quorum_queue,
        quorum=rabbit.rabbit_quorum_queue,
        queue=TOPIC,
        queue_arguments=_queue_arguments(rabbit),
    )


def _host(host: oslo_messaging.TransportHost) -> BrokerHost:
    """What oslo.messaging's driver makes of it."""
    return BrokerHost(
        hostname=host.hostname or "localhost",
        port=host.port or _PORT,
        user=host.username or "guest",
        password=host.password or "guest",
    )


def _queue_arguments(rabbit: Any) -> dict[str, object]:
    """What oslo.messaging's driver makes of it."""
    if not rabbit.rabbit_quorum_queue:
        return {"x-ha-policy": "all"} if rabbit.rabbit_ha_queues else {}
    limits = {
        "x-delivery-limit": rabbit.rabbit_quorum_delivery_limit,
        "x-max-in-memory-length": rabbit.rabbit_quorum_max_memory_length,
        "x-max-in-memory-bytes": rabbit.rabbit_quorum_max_memory_bytes,
    }
    return {"x-queue-type": "quorum"} | {name: limit for name, limit in limits.items() if limit}


def _path(value: str) -> Path | None:
    return Path(value) if value else None


def _refused(reason: str) -> InvalidConfiguration:
    # the URL itself holds a password
    return InvalidConfiguration("DEFAULT.transport_url", "a URL that is not shown", reason)
