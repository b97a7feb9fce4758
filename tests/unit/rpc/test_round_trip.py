"""Client and server through oslo.messaging, with its transport inside one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from oslo_messaging.transport import RPCTransport

from compute_agent.errors import DeadlineExceeded, HostError, InstanceNotFound, InvalidConfiguration, InvalidMessage
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.view import Notification, OperationState, OperationView
from compute_agent.rpc.client import ComputeClient
from compute_agent.rpc.notifications import Publisher, listen
from compute_agent.rpc.server import RpcServer
from compute_agent.rpc.transport import connect
from tests.unit.rpc.agent import RememberingAgent

UUID = "11111111-2222-4333-8444-555555555555"
NOBODY_LISTENS = "rabbit://agent:secret@127.0.0.1:1/"


@pytest.fixture(scope="module")
def transport() -> RPCTransport:
    return connect("fake://")


@pytest.fixture(scope="module")
def serving_agent(transport: RPCTransport) -> Iterator[RememberingAgent]:
    agent = RememberingAgent()
    server = RpcServer(transport, "node1", agent)
    server.start()
    yield agent
    assert server.stop(5)


@pytest.fixture
def agent(serving_agent: RememberingAgent) -> RememberingAgent:
    serving_agent.requests.clear()
    serving_agent.states = [OperationState.DONE]
    return serving_agent


@pytest.fixture
def client(agent: RememberingAgent, transport: RPCTransport) -> ComputeClient:
    return ComputeClient(transport, "node1", timeout=10)


def test_every_change(client: ComputeClient, agent: RememberingAgent) -> None:
    instance = Instance(uuid=UUID, name="web", flavor=Flavor(vcpus=1, memory_mb=64))
    accepted = client.build_and_run_instance(instance)
    assert agent.requests[0].instance == instance
    assert agent.requests[0].request_id == accepted.request_id
    for verb in ("start", "stop", "reboot", "pause", "unpause", "suspend", "resume", "terminate"):
        accepted = getattr(client, f"{verb}_instance")(UUID)
        assert (accepted.operation, accepted.state) == (verb, OperationState.ACCEPTED)
    assert client.stop_instance(UUID, UUID, timeout=2.5).request_id == UUID
    assert agent.requests[-1].arguments == {"timeout": 2.5}
    client.reboot_instance(UUID, reboot_type="HARD", timeout=1)
    assert agent.requests[-1].arguments == {"reboot_type": "HARD", "timeout": 1.0}


def test_every_question(client: ComputeClient) -> None:
    assert client.list_instances() == []
    assert client.get_host() == {"host": "node1"}
    assert client.list_images()[0].used_at == client.prune_images()[0].used_at == 1.5
    assert [client.reconcile(dry_run=dry)[0].due for dry in (True, False)] == [False, True]
    assert client.get_serial_console(UUID) == {"type": "unix"}
    assert client.get_console_output(UUID, 5) == "xxxxx"
    assert client.get_operation(UUID).accepted_at == 1.5
    assert [type(one) for one in client.list_operations(UUID, 2)] == [OperationView, OperationView]


def test_errors_come_back_as_they_were_raised(client: ComputeClient) -> None:
    with pytest.raises(InstanceNotFound) as caught:
        client.get_instance(UUID)
    assert type(caught.value) is InstanceNotFound
    assert str(caught.value) == f"instance_uuid: no such instance on this host (got '{UUID}')"
    with pytest.raises(InvalidMessage) as refused:
        client.get_instance("web")
    assert (refused.value.field, refused.value.value) == ("instance_uuid", "web")


def test_waiting_ends_with_the_operation(
    client: ComputeClient, agent: RememberingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute_agent.rpc.client.ASK_AGAIN", 0.05)
    agent.states, agent.waits = [OperationState.ACCEPTED, OperationState.RUNNING, OperationState.FAILED], []
    seen: list[OperationState] = []
    assert client.wait(UUID, 10, lambda operation: seen.append(operation.state)).state is OperationState.FAILED
    assert seen == [OperationState.ACCEPTED, OperationState.RUNNING, OperationState.FAILED]
    assert [wait > 0 for wait in agent.waits] == [False, True, True], "who shows something shows it at once"
    assert client.wait(UUID, 10).state is OperationState.FAILED
    assert agent.waits[-1] > 0


def test_an_agent_that_does_not_wait_is_not_asked_without_a_pause(
    client: ComputeClient, agent: RememberingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute_agent.rpc.client.ASK_AGAIN", 0.05)
    agent.states, began = [OperationState.RUNNING] * 4 + [OperationState.DONE], time.monotonic()
    client.wait(UUID, 10)
    assert time.monotonic() - began >= 4 * 0.05


def test_waiting_has_an_end(client: ComputeClient, agent: RememberingAgent) -> None:
    agent.states = [OperationState.RUNNING]
    with pytest.raises(DeadlineExceeded, match=UUID):
        client.wait(UUID, 0.1)


def test_no_answer(transport: RPCTransport) -> None:
    with pytest.raises(DeadlineExceeded, match=r"agent on nobody gave no answer to get_host in 0\.2 s"):
        ComputeClient(transport, "nobody", timeout=0.2).get_host()


def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(HostError, match=r"broker 127\.0\.0\.1:1: .*refused") as caught:
        ComputeClient(connect(NOBODY_LISTENS), "node1").get_host()
    assert "secret" not in str(caught.value)
    with pytest.raises(HostError, match=r"broker 127\.0\.0\.1:1: .*refused"):
        Publisher(connect(NOBODY_LISTENS), "node1")(Notification(event_type="a", payload={}))


def test_a_server_without_a_broker_starts_and_stops() -> None:
    server = RpcServer(connect(NOBODY_LISTENS), "node1", RememberingAgent())
    server.start()
    assert server.stop(5)


@pytest.mark.parametrize("url", ["rabbit://agent:secret@host:port/", "pigeon://agent:secret@host/", "secret"])
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="transport_url") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_notifications_are_heard(transport: RPCTransport) -> None:
    heard: SimpleQueue[Notification] = SimpleQueue()
    listener = listen(transport, heard.put)
    sent = Notification(event_type="compute.instance.boot.start", payload={"progress": 0})
    Publisher(transport, "node1")(sent)
    assert heard.get(timeout=10) == sent
    listener.stop()
    listener.wait()
