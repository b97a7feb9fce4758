"""A guest that writes to its memory faster than that is carried: what becomes of it, also when its time is over."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from compute_agent.host.page_faults import SYSCTL
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.functional.guests import Guests, address_of, until
from tests.host.test_migration import SECONDS, Traveller, left_on, own_disks

_CONFIGURATION = "/etc/compute-agent/compute-agent.conf"
_FORMER = f"{_CONFIGURATION}.former"
_TIME = 10.0
"""Seconds that it has."""
_LATE = 60.0
"""Seconds that hosts which are emulated may take longer."""
_OPTIONS = """
[virt]
command_timeout = 60

[migration]
encrypt = false
max_bandwidth = 4
"""
"""Others of migrations follow."""
_UNSLOWED = 150.0
"""Seconds that it is not slowed down in."""
_MIGRATION = {
    **{policy: f"timeout = {_TIME}\non_timeout = {policy}" for policy in ("abort", "force", "post-copy")},
    "compression": f"timeout = {2 * _UNSLOWED}\nlongest_downtime = 0.3\ncompression = xbzrle",
}
_LINES, _EVERY = 1 << 17, 64
"""64 bytes each: 8 MiB, of which one byte on each page changes."""
_PRINT = r'BEGIN { for (i = 0; i < lines; i++) printf "%d%062d\n", i % every ? 0 : first, i }'
_COPY = "for text in /tmp/a /tmp/b; do dd if=$text of=/tmp/text bs=64k conv=notrunc; done"
_WRITE = f"while :; do {_COPY}; done > /dev/null 2>&1"
_READ = "sed s/^1/0/ /tmp/text | md5sum"


def _printed(first: int) -> str:
    """The command that prints all lines, the first of each page beginning with `first`."""
    return f"awk -v lines={_LINES} -v every={_EVERY} -v first={first} '{_PRINT}'"


@pytest.fixture(scope="module")
def restless(lab: Laboratory) -> Iterator[Traveller]:
    """A guest that writes for ever, between hosts that allow page faults to be served."""
    for host in lab.hosts:
        host.run("cp", _CONFIGURATION, _FORMER)
        host.run("sysctl", "-q", f"{SYSCTL}=1")
    traveller = Traveller(lab, own_disks("qcow2"), "qemu")
    traveller.run(f"{_printed(0)} > /tmp/a; {_printed(1)} > /tmp/b; {_WRITE} & true")
    yield traveller
    for guests in traveller.hosts:
        if traveller.uuid in {one.instance.uuid for one in guests.client.list_instances()}:
            guests.finish(guests.client.terminate_instance(traveller.uuid), SECONDS)
        assert left_on(guests.node, traveller.order) == []
    for host in lab.hosts:
        host.run("mv", _FORMER, _CONFIGURATION)
        host.run("sysctl", "-q", f"{SYSCTL}=0")
    _restart_agents(lab)


@pytest.fixture
def traveller(lab: Laboratory, restless: Traveller, request: pytest.FixtureRequest) -> Traveller:
    """The same, where all agents have the options that the test names."""
    for host in lab.hosts:
        more = _OPTIONS + _MIGRATION[request.param]
        host.run("sh", "-c", f"cat {_FORMER} - > {_CONFIGURATION}", stdin=more)
    _restart_agents(lab)
    return restless


def _restart_agents(lab: Laboratory) -> None:
    """On all hosts at once: each has a processor of its own."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(_restart_agent, lab.hosts))


def _restart_agent(host: VirtualHost) -> None:
    host.stop_agent()
    host.start_agent()


def _order(traveller: Traveller) -> str:
    migration = str(uuid.uuid4())
    traveller.here.client.live_migration(traveller.uuid, traveller.there.node.name, migration)
    return migration


def _has_come_to(stage: str, source: Guests, migration: str) -> bool:
    operation = source.client.get_operation(migration)
    assert operation.state in (OperationState.ACCEPTED, OperationState.RUNNING), operation.fault
    return operation.details is not None and operation.details.stage == stage


def _begin(traveller: Traveller) -> str:
    """The migration, when the guest runs there and the rest of its memory comes."""
    source, migration = traveller.here, _order(traveller)
    until(lambda: _has_come_to("rest", source, migration), SECONDS)
    return migration


def _assert_in_time(source: Guests, migration: str, state: OperationState) -> str | None:
    """It ends when its time is over; with what fault."""
    until(lambda: _has_come_to("memory", source, migration), SECONDS)
    began = time.monotonic()
    operation = source.client.wait(migration, SECONDS)
    took = time.monotonic() - began
    print(f"it ended {took:.1f} s after its memory was begun to be carried")
    assert _TIME - 2 <= took <= _TIME + _LATE  # it is seen a moment later that it is carried
    assert operation.state is state, operation.fault
    return operation.fault and operation.fault.message


def _assert_arrived(traveller: Traveller, source: Guests, destination: Guests, migration: str, counted: int) -> None:
    operation = source.client.wait(migration, SECONDS)
    assert operation.state is OperationState.DONE, operation.fault
    _assert_there(traveller, source, destination, counted)


def _assert_there(traveller: Traveller, source: Guests, destination: Guests, counted: int) -> None:
    until(lambda: destination.view(traveller.uuid).task is None, SECONDS)
    assert destination.view(traveller.uuid).vm_state is VmState.ACTIVE
    until(lambda: destination.counter(traveller.uuid) > counted, SECONDS)
    counts = destination.counts(traveller.uuid)
    assert counts[-1] - counts[0] == len(counts) - 1, "a number is missing, or came twice"
    assert left_on(source.node, traveller.order) == []
    for guests in traveller.hosts:
        guests.node.run("ping", "-c", "1", "-W", "10", address_of(traveller.order))


@pytest.mark.parametrize("traveller", ["abort"], indirect=True)
def test_it_stays_where_it_is(traveller: Traveller) -> None:
    source, destination = traveller.here, traveller.there
    counted = source.counter(traveller.uuid)
    fault = _assert_in_time(source, _order(traveller), OperationState.FAILED)
    assert fault is not None and "faster than that is carried" in fault
    until(lambda: left_on(destination.node, traveller.order) == [])  # nobody waits for it to be rolled back there
    _assert_there(traveller, destination, source, counted)


@pytest.mark.parametrize("traveller", ["force"], indirect=True)
def test_it_is_halted_until_all_of_it_is_there(traveller: Traveller) -> None:
    source, destination = traveller.here, traveller.there
    counted = source.counter(traveller.uuid)
    _assert_in_time(source, _order(traveller), OperationState.DONE)
    _assert_there(traveller, source, destination, counted)


@pytest.mark.parametrize("traveller", ["post-copy"], indirect=True)
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


@pytest.mark.parametrize("traveller", ["compression"], indirect=True)
def test_it_is_there_in_time_where_only_what_has_changed_follows(traveller: Traveller) -> None:
    source, destination = traveller.here, traveller.there
    counted = source.counter(traveller.uuid)
    migration = _order(traveller)
    until(lambda: _has_come_to("memory", source, migration), SECONDS)
    began = time.monotonic()
    _assert_arrived(traveller, source, destination, migration, counted)
    took = time.monotonic() - began
    print(f"it was there {took:.1f} s after its memory was begun to be carried")
    assert took < _UNSLOWED
    text = "".join(f"{number:063d}\n" for number in range(_LINES)).encode()
    assert hashlib.md5(text, usedforsecurity=False).hexdigest() in traveller.run(_READ)
