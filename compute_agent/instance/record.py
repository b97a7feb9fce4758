"""The versioned record of an instance: what the journal keeps, and an agent of another version may find.

It says what the instance is and what its machine became, never a command line.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from compute_agent.errors import RecordTooNew
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import Incoming
from compute_agent.instance.model import Instance
from compute_agent.instance.preparation import prepare

VERSION = 5
"""1: disks had no layers. 2: every machine was QEMU's. 3: ports had no names. 4: no instance moved between hosts."""


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance and, once decided, its machine."""

    instance: Instance
    machine: Machine | None = None
    epoch: int = 0
    """How often the instance has moved: of two records, the higher one's host owns it."""
    incoming: Incoming | None = None
    """It is another host's as long as this is there; its guest must not run here."""
    version: Literal[1, 2, 3, 4, 5] = 5

    @property
    def takes_vhost_user(self) -> bool:
        """It has a machine that opens no disk itself; see there."""
        return self.machine is not None and self.machine.takes_vhost_user


class _Versioned(msgspec.Struct):
    """Any record, as far as every version agrees."""

    version: int


def encode_record(record: InstanceRecord) -> bytes:
    """JSON, one line."""
    return msgspec.json.encode(record)


def decode_record(data: bytes) -> InstanceRecord:
    """The record that `encode_record` wrote.

    :raises RecordTooNew: a newer agent wrote it; guessing could destroy the instance.
    """
    version = msgspec.json.decode(data, type=_Versioned).version
    if version > VERSION:
        raise RecordTooNew(f"instance record has version {version}, this agent knows up to {VERSION}")
    record = msgspec.json.decode(data, type=InstanceRecord)
    # Earlier agents kept an instance as it was ordered, its disks or ports without names.
    return msgspec.structs.replace(record, instance=with_named_devices(record.instance), version=VERSION)


prepare(_Versioned, InstanceRecord)
