"""What all messages are made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from compute_agent.instance.wire import Uuid

DiskReference = Annotated[str, Meta(min_length=1, max_length=36, description="its device_name or volume_id")]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keyword arguments of one call."""


class Change(Message, frozen=True):
    """A request that changes something: repeated with the same id it gets the same answer and starts nothing."""

    request_id: Uuid


class InstanceChange(Change, frozen=True):
    """Such a request about one instance."""

    instance_uuid: Uuid
