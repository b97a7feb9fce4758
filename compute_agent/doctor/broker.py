"""RabbitMQ, as the agent will use it: can it be reached, who are we there, what may we do, what does it take?

A broker's further lines are left out where the first is a failure.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from kombu.connection import Connection
from kombu.exceptions import KombuError

from compute_agent.doctor.broker_queues import check_messages, check_queues, check_rights, workbench
from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.doctor.settings import BrokerHost, BrokerSettings

DEADLINE = 20.0
"""Seconds for one broker; a message of 64 MiB may be on its way."""
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 10.0

_NOT_REACHED = "on the broker: systemctl start rabbitmq-server; or correct [DEFAULT] transport_url"
_NO_LOGIN = "correct [DEFAULT] transport_url; or on the broker: rabbitmqctl change_password {user} (or add_user {user})"
_NO_VIRTUAL_HOST = (
    "on the broker: rabbitmqctl add_vhost '{vhost}'; rabbitmqctl set_permissions -p '{vhost}' {user} '.*' '.*' '.*'"
)
_USE_TLS = "set [oslo_messaging_rabbit] ssl = true and ssl_ca_file, and a port with TLS in [DEFAULT] transport_url"


def check_broker(settings: BrokerSettings, host: BrokerHost) -> list[Finding]:
    """All about one of the brokers."""
    try:
        with _connected(settings, host) as connection:
            return [_describe(connection, settings, host), judge_tls(settings, host), *_use(connection, settings, host)]
    except (OSError, AMQPError, KombuError) as error:
        return [judge_refusal(error, settings, host)]


def judge_refusal(error: Exception, settings: BrokerSettings, host: BrokerHost) -> Finding:
    """What it means that there is no connection."""
    names = {"user": host.user, "vhost": settings.virtual_host}
    if isinstance(error, AccessRefused):
        return failure("broker", f"{host} refuses user {host.user} with this password", _NO_LOGIN.format(**names))
    if isinstance(error, NotAllowed):
        found = f"{host} has no virtual host {settings.virtual_host} for user {host.user}"
        return failure("broker", found, _NO_VIRTUAL_HOST.format(**names))
    if isinstance(error, ssl.SSLError):
        remedy = "correct [oslo_messaging_rabbit] ssl_ca_file, or the broker's certificate or port"
        return failure("broker", f"no TLS with {host}: {error}", remedy)
    if isinstance(error, OSError):
        return failure("broker", f"{host} cannot be reached: {error.strerror or error}", _NOT_REACHED)
    return failure("broker", f"{host}: {error}", _NOT_REACHED)


def judge_tls(settings: BrokerSettings, host: BrokerHost) -> Finding:
    """Can anybody between here and there read the password, or be the broker?"""
    if settings.tls and settings.ca_file:
        return ok("broker-tls", f"encrypted, and the certificate is one of {settings.ca_file}")
    if _is_this_host(host.hostname):
        return ok("broker-tls", "on this host: needs none")
    if settings.tls:
        return warning("broker-tls", "encrypted, but any certificate is believed", _USE_TLS)
    return warning("broker-tls", "none: password and messages can be read on their way", _USE_TLS)


def _use(connection: Any, settings: BrokerSettings, host: BrokerHost) -> Iterator[Finding]:
    with workbench(connection) as bench:
        rights = check_rights(bench, settings, host)
        yield rights
        if not rights.remedy:
            yield check_queues(connection, settings, host)
            yield check_messages(bench)


@contextmanager
def _connected(settings: BrokerSettings, host: BrokerHost) -> Iterator[Any]:
    """The connection of py-amqp, below kombu's: that would try again and again."""
    client = Connection(
        hostname=host.hostname,
        port=host.port,
        userid=host.user,
        password=host.password,
        virtual_host=settings.virtual_host,
        transport="pyamqp",
        ssl=_tls(settings, host),
        connect_timeout=_CONNECT_SECONDS,
        transport_options={
            "confirm_publish": True,
            "read_timeout": _SILENCE_SECONDS,
            "write_timeout": _SILENCE_SECONDS,
            "client_properties": {"capabilities": {"authentication_failure_close": True}},
        },
    )
    connection = client.transport.establish_connection()
    try:
        yield connection
    finally:
        client.transport.close_connection(connection)


def _tls(settings: BrokerSettings, host: BrokerHost) -> dict[str, object] | bool:
    """As oslo.messaging does it."""
    if not settings.tls:
        return False
    files = {"keyfile": settings.key_file, "certfile": settings.certificate_file, "ca_certs": settings.ca_file}
    parameters: dict[str, object] = {name: str(path) for name, path in files.items() if path}
    if settings.ca_file:
        parameters |= {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host.hostname}
    return parameters or True


def _describe(connection: Any, settings: BrokerSettings, host: BrokerHost) -> Finding:
    server = connection.server_properties
    software = f"{server.get('product', 'AMQP')} {server.get('version', '')}".strip()
    return ok("broker", f"{software} at {host}, user {host.user}, virtual host {settings.virtual_host}")


def _is_this_host(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
