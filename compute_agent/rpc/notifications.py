"""Notifications: published by the agent, heard by a controller."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import oslo_messaging
from oslo_messaging.notify.listener import NotificationServer
from oslo_messaging.transport import NotificationTransport, RPCTransport

from compute_agent.instance.view import Notification
from compute_agent.rpc.messages import EXCHANGE
from compute_agent.rpc.transport import RETRIES, broker_errors

TOPIC = "notifications"
PRIORITY = "info"
"""The queue is ``notifications.info``."""

_ENVELOPE_VERSION = 2.0


class Publisher:
    """Hands notifications to the broker, in the format of oslo.messaging's ``messagingv2``."""

    def __init__(self, transport: RPCTransport, host: str) -> None:
        self._transport = transport
        self._publisher_id = f"compute.{host}"
        self._target = oslo_messaging.Target(exchange=EXCHANGE, topic=f"{TOPIC}.{PRIORITY}")

    def __call__(self, notification: Notification) -> None:
        """Return when the broker has it.

        :raises HostError: the broker did not take it.
        """
        message = {
            "message_id": str(uuid.uuid4()),
            "publisher_id": self._publisher_id,
            "event_type": notification.event_type,
            "priority": PRIORITY.upper(),
            "payload": notification.payload,
            "timestamp": str(datetime.now(UTC).replace(tzinfo=None)),
        }
        # Notifier logs a failure and returns as if all were well; what it calls below raises
        with broker_errors(self._transport):
            self._transport._send_notification(self._target, {}, message, version=_ENVELOPE_VERSION, retry=RETRIES)


class _Endpoint:
    """What oslo.messaging calls; the method's name is the priority."""

    def __init__(self, handler: Callable[[Notification], None]) -> None:
        self._handler = handler

    def info(
        self, ctxt: object, publisher_id: str, event_type: str, payload: dict[str, Any], metadata: dict[str, Any]
    ) -> None:
        self._handler(Notification(event_type=event_type, payload=payload))


def listen(transport: RPCTransport, handler: Callable[[Notification], None]) -> NotificationServer:
    """Call `handler` for every notification, in threads of the listener's own.

    End it with ``stop()`` and ``wait()``. Listeners of one virtual host share the notifications between them.
    """
    target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC)
    # an RPC transport would do, but is complained about
    listener = oslo_messaging.get_notification_listener(
        NotificationTransport(transport._driver), [target], [_Endpoint(handler)]
    )
    listener.start()
    return listener
