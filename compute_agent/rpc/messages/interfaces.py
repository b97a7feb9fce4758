"""An instance's ports, which come and go."""

from __future__ import annotations

from compute_agent.instance.model import Port
from compute_agent.instance.wire import Uuid
from compute_agent.rpc.messages.base import InstanceChange, Message


class AttachInterface(InstanceChange, frozen=True):
    """Give the instance one more port: its guest gets a NIC, now or when it is started."""

    port: Port


class DetachInterface(InstanceChange, frozen=True):
    """Take a port away again; fails, and may be repeated, where the guest does not let go of its NIC."""

    port_id: Uuid


MESSAGES: tuple[type[Message], ...] = (AttachInterface, DetachInterface)
