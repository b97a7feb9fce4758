"""The connection: a server that is away, silent, or comes back; and an end that leaves nobody waiting."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from compute_agent.errors import DeadlineExceeded, InvalidConfiguration, NetworkError
from compute_agent.network.ovs import follower
from compute_agent.network.ovs import ovsdb as ovsdb_module
from compute_agent.network.ovs.errand import PENDING, AddPorts, Look
from compute_agent.network.ovs.ovsdb import Ovsdb
from compute_agent.network.ovs.request import Request
from compute_agent.network.ovs.switch import Switch

from .asking import HOST, add, finish, following, remove, row, soon
from .switch_server import StandIn, SwitchServer


def bridges(switch: Switch) -> str:
    return str(switch.bridge("br-int").name)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_RESTART", 0.2)
    monkeypatch.setattr(follower, "_ATTEMPT", 0.1)


@pytest.fixture
def absent(impatient: None) -> Iterator[tuple[str, Ovsdb]]:
    with tempfile.TemporaryDirectory() as directory:
        connection = f"unix:{directory}/db.sock"
        ovsdb = Ovsdb(connection)
        yield connection, ovsdb
        ovsdb.close()


def test_a_server_that_is_not_there_is_named_long_before_the_deadline(absent: tuple[str, Ovsdb]) -> None:
    connection, ovsdb = absent
    began = time.monotonic()
    with pytest.raises(NetworkError, match=f"cannot reach the switch's database at {connection}: No such file"):
        ovsdb.ask(Look(bridges), soon(60))
    assert time.monotonic() - began < 5


def test_what_is_not_a_connection_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match=r"network\.ovsdb_connection: must begin with unix: or tcp:"):
        Ovsdb("/run/openvswitch/db.sock")


def test_a_change_without_an_answer_is_unknown_and_may_land_late(
    server: SwitchServer, vswitchd: StandIn, ovsdb: Ovsdb
) -> None:
    ovsdb.ask(Look(bridges), soon())
    server.freeze()
    with pytest.raises(DeadlineExceeded, match=f"the switch's database at {server.connection} did not answer in time"):
        add(ovsdb, row("tap1"), within=0.2)
    with pytest.raises(NetworkError, match="cannot reach the switch's database"):  # never sent: definite
        add(ovsdb, row("tap2"), within=0.2)
    server.thaw()
    assert remove(ovsdb, "tap1", "tap2") > 0
    assert server.ports() == []


def test_a_change_that_was_lost_with_the_server_is_made_again(server: SwitchServer, vswitchd: StandIn) -> None:
    adding, looking = Request(AddPorts([row("tap1")], HOST), soon()), Request(Look(bridges), soon())
    with following(server) as follower:
        server.freeze()
        follower.step([adding])
        assert adding.was_sent
        server.kill()
        server.start()
        finish(follower, [adding, looking])
    assert adding.future.result(0) is None
    assert looking.future.result(0) == "br-int"
    assert server.ports() == ["tap1"]


def test_a_bug_is_reported_and_the_next_one_is_served(
    server: SwitchServer, ovsdb: Ovsdb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ovsdb_module, "_RECOVERY_PAUSE", 0.0)

    def stumble(switch: Switch) -> None:
        raise ZeroDivisionError

    with pytest.raises(DeadlineExceeded, match="an internal error"):
        ovsdb.ask(Look(stumble), soon())
    assert ovsdb.ask(Look(bridges), soon()) == "br-int"
    assert "ZeroDivisionError" in caplog.text


def test_closing_leaves_nobody_waiting(server: SwitchServer) -> None:
    ovsdb = Ovsdb(server.connection)
    looked = threading.Event()

    def never(switch: Switch) -> object:
        looked.set()
        return PENDING

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ovsdb.ask, Look(never), soon(60))
        assert looked.wait(10)
        ovsdb.close()
        ovsdb.close()
        with pytest.raises(NetworkError, match="the agent is stopping"):
            waiting.result(10)
    with pytest.raises(NetworkError, match="the agent is stopping"):
        ovsdb.ask(Look(bridges), soon(60))
