"""Tells systemd how the service is."""

from __future__ import annotations

import logging
import os
import socket

LOG = logging.getLogger(__name__)


def notify_systemd(state: str) -> None:
    """Send ``READY=1`` or the like (sd_notify(3)); nothing happens where nobody waits for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            notify.sendall(state.encode())
        except OSError as error:
            LOG.warning("Nobody hears %s at %s: %s", state, address, error)
