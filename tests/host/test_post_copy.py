"""A guest that writes to its memory faster than that is carried goes on at its new host, and the rest follows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from compute_agent.host.page_faults import SYSCTL
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.functional.guests import Guests, address_of, until
from tests.host.test_migration import SECONDS, Traveller, left_on, own_disks

_CONFIGURATION = "/etc/compute-agent/compute-agent.conf"
_PERMITTED = """
[migration]
encrypt = false
max_bandwidth = 4
timeout = 10
on_timeout = post-copy

[virt]
command_timeout = 60
"""
_WRITE = "head -c 16000000 /dev/urandom > /tmp/a; { while :; do cat /tmp/a > /tmp/b; done; } > /dev/null 2>&1 & true"


@pytest.fixture
def traveller(lab: Laboratory) -> Iterator[Traveller]:
    """It writes for ever; all agents permit post-copy."""
    for host in lab.hosts:
        host.run("cp", _CONFIGURATION, f"{_CONFIGURATION}.former")
        host.run("sh", "-c", f"cat >> {_CONFIGURATION}", stdin=_PERMITTED)
        _restart(host, userfaults=1)
    traveller = Traveller(lab, own_disks("qcow2"), "qemu")
    traveller.run(_WRITE)
    yield traveller
    for guests in traveller.hosts:
        if traveller.uuid in {one.instance.uuid for one in guests.client.list_instances()}:
            guests.finish(guests.client.terminate_instance(traveller.uuid), SECONDS)
        assert left_on(guests.node, traveller.order) == []
    for host in lab.hosts:
        host.run("mv", f"{_CONFIGURATION}.former", _CONFIGURATION)
        _restart(host, userfaults=0)


def _restart(host: VirtualHost, userfaults: int) -> None:
    host.run("sysctl", "-q", f"{SYSCTL}={userfaults}")
    host.stop_agent()
    host.start_agent()


def _begin(traveller: Traveller) -> str:
    """The migration, when the guest runs there and the rest of its memory comes."""
    source, migration = traveller.here, str(uuid.uuid4())
    source.client.live_migration(traveller.uuid, traveller.there.node.name, migration)
    until(lambda: _is_at_rest(source, migration), SECONDS)
    return migration


def _is_at_rest(source: Guests, migration: str) -> bool:
    operation = source.client.get_operation(migration)
    assert operation.state in (OperationState.ACCEPTED, OperationState.RUNNING), operation.fault
    return operation.details is not None and operation.details.stage == "rest"


def _assert_arrived(traveller: Traveller, source: Guests, destination: Guests, migration: str, counted: int) -> None:
    operation = source.client.wait(migration, SECONDS)
    assert operation.state is OperationState.DONE, operation.fault
    until(lambda: destination.view(traveller.uuid).task is None, SECONDS)
    assert destination.view(traveller.uuid).vm_state is VmState.ACTIVE
    until(lambda: destination.counter(traveller.uuid) > counted, SECONDS)
    counts = destination.counts(traveller.uuid)
    assert counts[-1] - counts[0] == len(counts) - 1, "a number is missing, or came twice"
    assert left_on(source.node, traveller.order) == []
    for guests in traveller.hosts:
        guests.node.run("ping", "-c", "1", "-W", "10", address_of(traveller.order))


def test_it_goes_on_there_and_the_rest_follows_whatever_becomes_of_the_connection(traveller: Traveller) -> None:
    source, destination = traveller.here, traveller.there
    counted = source.counter(traveller.uuid)
    _assert_arrived(traveller, source, destination, _begin(traveller), counted)

    counted = destination.counter(traveller.uuid)
    migration = _begin(traveller)
    cut = destination.node.run(
        "sh",
        "-c",
        f"modprobe tcp_diag; ss -K src {destination.node.address} dst {source.node.address} dport ge 49152",
    )
    assert "ESTAB" in cut, "its connection was lost before"
    _assert_arrived(traveller, destination, source, migration, counted)
