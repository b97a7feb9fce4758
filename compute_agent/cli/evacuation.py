"""From a file that was kept of an instance, and what a person has made sure of, to the order for another host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.cli.order import json_in
from compute_agent.errors import InvalidMessage
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import Evacuee, HostName
from compute_agent.instance.model import Instance


class _Record(Struct, frozen=True, kw_only=True):
    """Of what `get_instance` says, that which is needed."""

    instance: Instance
    machine: Machine
    epoch: Annotated[int, Meta(ge=0, lt=10**9)]
    host: HostName


def evacuee_from_file(path: Path, dead: str, epoch: int | None) -> Evacuee:
    """The instance in a file, as `get_instance` said it last, of a host that is `dead`.

    :param epoch: the one that it is to have; None: the next.
    :raises Failure: the file does not say what is needed, or something else than the other arguments.
    """
    record = _read(path)
    if record.host != dead:
        raise _usage_error(f"--dead {dead}: {path} says that the instance is on {record.host}")
    if epoch is not None and epoch <= record.epoch:
        raise _usage_error(f"--epoch {epoch}: is not above {record.epoch}, the one in {path}")
    return Evacuee(
        instance=record.instance,
        machine=record.machine,
        epoch=record.epoch + 1 if epoch is None else epoch,
        source=record.host,
    )


def _read(path: Path) -> _Record:
    # slow to import: only where there is a file to read
    from compute_agent.rpc.decode import checked  # noqa: PLC0415

    try:
        return checked(json_in(path), _Record)
    except InvalidMessage as error:
        advice = "give a file that computectl record has written while the host was alive"
        raise Failure(f"{path}: {error}", advice, ExitStatus.USAGE) from None


def _usage_error(message: str) -> Failure:
    return Failure(message, "computectl help evacuate", ExitStatus.USAGE)
