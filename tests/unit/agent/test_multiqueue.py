"""A flavor's word on queues: read when an instance is ordered, kept whenever its ports are plugged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import Nic
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.record import InstanceRecord
from compute_agent.network.contract import PortRequest
from tests.unit.agent.test_crash import request_for
from tests.unit.agent.world import INSTANCE, Agent, FakeNetwork, World

PORTS = [Port(id=f"00000000-0000-4000-8000-0000000000f{n}", mac_address=f"52:54:00:00:00:0{n}") for n in (1, 2)]


class NotingNetwork(FakeNetwork):
    """Remembers what it was asked to plug."""

    def plug(self, requests: Sequence[PortRequest]) -> list[Nic]:
        self.requests = list(requests)
        return super().plug(requests)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(World(tmp_path))
    yield agent
    agent.journal.close()


def an_instance(vcpus: int, **extra_specs: str) -> Instance:
    flavor = Flavor(vcpus=vcpus, memory_mb=64, extra_specs={f"hw:{name}": spec for name, spec in extra_specs.items()})
    return msgspec.structs.replace(INSTANCE, flavor=flavor, ports=PORTS)


@pytest.mark.parametrize(
    ("instance", "queues"),
    [
        (an_instance(255, vif_multiqueue_enabled="true"), 255),
        (an_instance(4, vif_multiqueue_enabled="true"), 4),
        (an_instance(1, vif_multiqueue_enabled="true"), 1),
        (an_instance(4, vif_multiqueue_enabled="false"), 1),
        (an_instance(4), 1),
    ],
)
def test_each_port_gets_as_many_queue_pairs_as_there_are_vcpus(agent: Agent, instance: Instance, queues: int) -> None:
    network = NotingNetwork(World(agent.node.settings.state_dir))
    node = dataclasses.replace(agent.node, network=network)
    Work(node, request_for("start", {}), InstanceRecord(instance=with_named_devices(instance))).plug_ports()
    assert [(one.name, one.queues) for one in network.requests] == [("net0", queues), ("net1", queues)]


def test_a_bad_extra_spec_is_refused_at_once(agent: Agent) -> None:
    boot = msgspec.structs.replace(request_for("boot", {}), instance=an_instance(1, vif_multiqueue_enabled="maybe"))
    with pytest.raises(InvalidMessage, match="vif_multiqueue_enabled"):
        admit(agent.node, boot)
    assert agent.journal.instances() == []
