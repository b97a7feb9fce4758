"""What is written to the switch's database and what is waited for, on a real ovsdb-server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from compute_agent.errors import DeadlineExceeded, NetworkError
from compute_agent.network.ovs.errand import AddPorts, await_applied
from compute_agent.network.ovs.ovsdb import Ovsdb
from compute_agent.network.ovs.request import Request
from compute_agent.network.ovs.schema import vswitch_schema
from compute_agent.network.ovs.switch import HOST_MARK

from .asking import HOST, add, finish, following, remove, row, soon
from .switch_server import SCHEMA, StandIn, SwitchServer


def test_our_part_of_the_schema_is_the_switchs_own() -> None:
    theirs = json.loads(SCHEMA.read_text())["tables"]
    ours = vswitch_schema()["tables"]
    assert isinstance(ours, dict)
    for table, columns in ((name, table["columns"]) for name, table in ours.items()):
        for column, definition in columns.items():
            assert _kind(definition) == _kind(theirs[table]["columns"][column]), f"{table}.{column}"


def _kind(definition: dict[str, object]) -> dict[str, object]:
    """Without ranges: those are the server's to hold."""
    kind = definition["type"] if isinstance(definition["type"], dict) else {"key": definition["type"]}
    return {"min": 1, "max": 1, **kind, "key": _atom(kind["key"])}


def _atom(kind: object) -> object:
    return (kind["type"], kind.get("refTable")) if isinstance(kind, dict) else (kind, None)


def test_a_port_is_written_as_neutron_wants_it(server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    add(ovsdb, row("tap1", vlan=7), row("tap2"))
    assert server.ports() == ["tap1", "tap2"]
    assert server.vsctl("get", "Port", "tap1", "tag") == "7"
    assert server.vsctl("get", "Port", "tap2", "tag") == "[]"
    assert server.vsctl("get", "Interface", "tap1", "mtu_request") == "1450"
    assert server.vsctl("get", "Interface", "tap1", "external_ids") == f"{{{HOST_MARK}={HOST}, iface-id=tap1}}"


def test_it_is_done_only_when_the_switch_has_given_a_number(server: SwitchServer, ovsdb: Ovsdb) -> None:
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add, ovsdb, row("tap1"))
        server.vsctl("wait-until", "Interface", "tap1", "mtu_request=1450")
        assert not adding.done()
        server.vsctl("set", "Interface", "tap1", "ofport=5")
        adding.result(10)


def test_what_the_switch_says_against_a_device_is_passed_on(vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    vswitchd.faults["tap1"] = "could not open network device tap1 (No such device)"
    with pytest.raises(NetworkError, match=r"tap1 on br-int: could not open network device tap1 \(No such device\)"):
        add(ovsdb, row("tap1"))


def test_a_port_that_the_switch_passes_over_is_not_waited_for(vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    vswitchd.forgotten.add("tap1")
    with pytest.raises(NetworkError, match="tap1 on br-int: ovs-vswitchd gave it no port number"):
        add(ovsdb, row("tap1"), within=60)


def test_a_dead_vswitchd_is_named(ovsdb: Ovsdb) -> None:
    with pytest.raises(
        NetworkError, match=r"ovs-vswitchd does not answer: it is at configuration 0, and should be at \d"
    ):
        add(ovsdb, row("tap1"), within=0.6)


def test_a_missing_bridge_is_named_and_nothing_is_written(
    server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb
) -> None:
    before = server.configuration
    with pytest.raises(NetworkError, match="bridge br-nope is not there"):
        add(ovsdb, row("tap1"), row("tap2", bridge="br-nope"))
    assert server.ports() == []
    assert server.configuration == before


def test_a_name_that_somebody_else_has_is_left_alone(server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    server.vsctl("add-port", "br-int", "tap1", "--", "set", "Interface", "tap1", f"external_ids:{HOST_MARK}=other")
    server.vsctl("add-port", "br-int", "tap2")
    with pytest.raises(NetworkError, match="tap1 is on the switch already"):
        add(ovsdb, row("tap1"))
    assert remove(ovsdb, "tap1", "tap2", "br-int", "tap3") == 0
    assert server.ports() == ["tap1", "tap2"]


def test_a_commit_that_was_thought_lost_is_taken_up(server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    add(ovsdb, row("tap1"))
    before = server.configuration
    add(ovsdb, row("tap1"))
    assert server.configuration == before


def test_ports_go_in_one_transaction(server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    add(ovsdb, row("tap1"), row("tap2"), row("tap3"))
    before = server.configuration
    without = remove(ovsdb, "tap1", "tap3", "tap4")
    assert without == before + 1
    ovsdb.ask(await_applied(without), soon())
    assert server.ports() == ["tap2"]
    assert server.vsctl("--columns=name", "find", "Interface", "name=tap1") == ""


def test_fifty_at_once_from_fifty_threads(server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb) -> None:
    names = sorted(f"tap{number:02}" for number in range(50))
    with ThreadPoolExecutor(50) as pool:
        for one in [pool.submit(add, ovsdb, row(name)) for name in names]:
            one.result(20)
    assert server.ports() == names


def test_what_is_asked_during_a_transaction_goes_into_the_next_one(server: SwitchServer, vswitchd: StandIn) -> None:
    requests = [Request(AddPorts([row(f"tap{number}")], HOST), soon()) for number in range(50)]
    with following(server) as follower:
        before = server.configuration
        server.freeze()
        follower.step(requests[:1])
        follower.step([])  # the first one is on its way
        server.thaw()
        finish(follower, requests)
    assert len(server.ports()) == 50
    assert server.configuration == before + 2


def test_one_that_the_server_refuses_does_not_take_others_with_it(server: SwitchServer, vswitchd: StandIn) -> None:
    good = Request(AddPorts([row("tap1")], HOST), soon())
    bad = Request(AddPorts([row("tap2", vlan=5000)], HOST), soon())
    with following(server) as follower:
        finish(follower, [good, bad])
    assert good.future.result(0) is None
    assert "the switch's database refused it: " in str(bad.future.exception(0))
    assert server.ports() == ["tap1"]


def test_a_refusal_that_comes_after_the_deadline_hurts_nobody(server: SwitchServer, vswitchd: StandIn) -> None:
    bad = Request(AddPorts([row("tap2", vlan=5000)], HOST), soon(0.05))
    good = Request(AddPorts([row("tap1")], HOST), soon())
    with following(server) as follower:
        server.freeze()
        finish(follower, [bad])
        server.thaw()
        finish(follower, [good])
    assert isinstance(bad.future.exception(0), DeadlineExceeded)
    assert good.future.result(0) is None
