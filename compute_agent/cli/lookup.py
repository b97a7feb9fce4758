"""Which instance a person means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from compute_agent.cli.failure import Failure
from compute_agent.instance.model import Instance
from compute_agent.instance.wire import UUID_PATTERN

if TYPE_CHECKING:
    from compute_agent.rpc.client import ComputeClient


def find_instance_uuid(client: ComputeClient, text: str, host: str) -> str:
    """The uuid of the one instance of `host` that has `text` as its uuid, its name or the start of its uuid.

    A whole uuid is taken as it is: it may be that of an instance that is no more.

    :raises Failure: there is none, or more than one.
    """
    if re.fullmatch(UUID_PATTERN, text.lower()):
        return text.lower()
    instances = [view.instance for view in client.list_instances()]
    meant = [one for one in instances if one.name == text or one.uuid.startswith(text.lower())]
    if not meant:
        raise Failure(f"no instance has the name or uuid {text!r} on host {host}", "computectl list")
    if len(meant) > 1:
        raise Failure(f"{text!r} may be {_enumerate(meant)} on host {host}", "give the whole uuid, or more of it")
    return meant[0].uuid


def _enumerate(instances: list[Instance]) -> str:
    return " or ".join(f"{one.uuid} ({one.name})" for one in instances)
