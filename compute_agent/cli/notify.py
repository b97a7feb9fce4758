"""Tells systemd how the service is."""

from __future__ import annotations

import os
import socket


def notify_systemd(state: str) -> None:
    """Send ``READY=1`` or the like (sd_notify(3)); nothing happens where nobody waits for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            notify.sendall(state.encode())
