"""What the order to leave says: which instance, where to, and how; and who is asked there."""

from __future__ import annotations

import uuid

import msgspec

from compute_agent.agent.gates import migration_address
from compute_agent.agent.peers import Peer
from compute_agent.agent.request import Request
from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.migration import HostFacts, Mover, PortBinding, rebound
from compute_agent.instance.model import Instance
from compute_agent.instance.preparation import prepare

prepare(list[PortBinding])


def is_live(work: Work) -> bool:
    """It runs while it moves."""
    return work.request.operation == "live_migration"


def mover_of(work: Work) -> Mover:
    """:raises MigrationRefused: the guest cannot move."""
    return Mover(
        instance=rebound(work.instance, _bindings(work.request)),
        machine=work.machine,
        epoch=work.record.epoch,
        source=work.node.settings.host,
        address=migration_address(work.node.settings),
        facts=_facts(work),
        mirrored=list(work.node.storage.moves.mirrored(work.instance)),
        proof=migration_id(work),
        post_copy=permits_post_copy(work),
    )


def check_bindings(request: Request, instance: Instance) -> None:
    """:raises InvalidMessage: a port is none of the instance's, or is bound twice."""
    wanted = [one.port_id for one in _bindings(request)]
    present = {port.id for port in instance.ports}
    for index, port_id in enumerate(wanted):
        if port_id not in present:
            raise InvalidMessage(f"bindings[{index}].port_id", port_id, "the instance has no such port")
        if port_id in wanted[:index]:
            raise InvalidMessage(f"bindings[{index}].port_id", port_id, "is bound twice")


def _bindings(request: Request) -> list[PortBinding]:
    return msgspec.convert(request.arguments.get("bindings", []), list[PortBinding])


def permits_post_copy(work: Work) -> bool:
    """It may go on there before all of its memory has come, if it runs and cannot get there otherwise."""
    return is_live(work) and work.node.settings.migration.on_timeout == "post-copy"


def _facts(work: Work) -> HostFacts | None:
    """Nothing of the state of a guest that is stopped has to be understood there."""
    return work.node.hypervisor.facts(work.machine) if is_live(work) else None


def peer(work: Work) -> Peer:
    """The agent of the other host."""
    return work.node.peers(destination(work))


def destination(work: Work) -> str:
    """The other host."""
    return str(work.request.arguments["dest"])


def migration_id(work: Work) -> str:
    """What both hosts call the migration."""
    return work.request.request_id


def derived(work: Work, what: str) -> str:
    """The id of a request to the other host: the same one, however often it is sent."""
    return str(uuid.uuid5(uuid.UUID(migration_id(work)), what))
