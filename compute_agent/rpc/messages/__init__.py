"""The messages of RPC 1.0: one type for each verb's arguments.

A type's name is the verb's in camel case; `VERBS` is the whole interface. Exchange ``compute_agent``,
topic ``compute``, server = host name. Verbs that change something answer `Accepted` as soon as the
request is durable.
"""

from __future__ import annotations

import re

from compute_agent.rpc.messages import copies, disks, host, instances, interfaces, migration
from compute_agent.rpc.messages.base import Change, Message

__all__ = ["EXCHANGE", "RPC_VERSION", "TOPIC", "VERBS", "Change", "Message"]

RPC_VERSION = "1.0"
TOPIC = "compute"
EXCHANGE = "compute_agent"


def _verb_of(message: type[Message]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower()


VERBS: dict[str, type[Message]] = {
    _verb_of(message): message
    for room in (instances, disks, interfaces, copies, migration, host)
    for message in room.MESSAGES
}
