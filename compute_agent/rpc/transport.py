"""The connection to the broker, with the settings that this project needs.

oslo.messaging works with oslo.config's global object only: a private one breaks calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import oslo_messaging
from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from oslo_config import cfg
from oslo_messaging._drivers.amqpdriver import ObsoleteReplyQueuesCache
from oslo_messaging.opts import list_opts
from oslo_messaging.transport import RPCTransport

from compute_agent import errors
from compute_agent.errors import HostError, InvalidConfiguration

RABBIT_DEFAULTS = {
    "amqp_durable_queues": True,  # without, a call that waits in the queue is lost when the broker dies
    "rabbit_interval_max": 5,  # seconds; an agent is to be back soon after its broker
    "heartbeat_timeout_threshold": 30,  # seconds until a broker that vanished without a word is given up
    "kombu_missing_consumer_retry_timeout": 3,  # seconds spent on an answer to a caller that is gone
}

_DEAF_FOR = 3
"""Seconds for which nothing is answered to a caller that could not be answered. oslo.messaging has a minute, and begins
it after many an outage: an agent that is connected again before its caller takes that one for gone."""

RETRIES = 1
"""How often a message is sent again. None at all would fail on every connection that the broker closed meanwhile."""


def set_defaults(conf: cfg.ConfigOpts = cfg.CONF) -> None:
    """Make our defaults oslo.messaging's, for all that is not set in a configuration file. May be repeated."""
    for group, options in list_opts():
        conf.register_opts(options, group)
    for name, value in RABBIT_DEFAULTS.items():
        conf.set_default(name, value, "oslo_messaging_rabbit")
    ObsoleteReplyQueuesCache.TTL = _DEAF_FOR


def connect(transport_url: str | None = None) -> RPCTransport:
    """A transport to this broker, or to the one that oslo.config's global object names. Connects when it is first used.

    Controllers and agents of one virtual host have to agree on the kind of queues: connect with this.

    :param transport_url: such as ``rabbit://user:password@broker:5672/compute_agent``.
    :raises InvalidConfiguration: the URL cannot be used.
    """
    set_defaults()
    try:
        url = oslo_messaging.TransportURL.parse(cfg.CONF, transport_url)
        return oslo_messaging.get_rpc_transport(cfg.CONF, url, allowed_remote_exmods=[errors.__name__])
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure, ValueError) as error:
        # the URL itself holds a password
        raise InvalidConfiguration("DEFAULT.transport_url", "a URL that is not shown", str(error)) from None


def broker_of(transport: RPCTransport) -> str:
    """Host and port of the broker, for a person; of all of them, where there are more."""
    hosts = transport._driver._url.hosts
    return ", ".join(f"{host.hostname}:{host.port or 5672}" for host in hosts) or "localhost:5672"


@contextmanager
def broker_errors(transport: RPCTransport) -> Iterator[None]:
    """Turn what oslo.messaging lets through into an error of ours.

    :raises HostError: the broker cannot be reached, refuses the password, or refused a message.
    """
    try:
        yield
    except (oslo_messaging.MessageDeliveryFailure, KombuError, AMQPError, OSError) as error:
        raise HostError(f"broker {broker_of(transport)}: {error}") from None
