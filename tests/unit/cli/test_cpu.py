"""One CPU for several hosts, on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from compute_agent.cli.connection import Connection
from compute_agent.errors import HostError
from compute_agent.instance.view import CpuView
from tests.unit.cli.conftest import Shell

OLD = CpuView(
    vendor="AMD",
    accelerator="kvm",
    features=["avx", "sse2", "sse4a", "x2apic"],
    models={"EPYC-v1": ["avx", "sse2"], "Opteron_G1-v1": ["sse2"]},
)
NEW = CpuView(
    vendor="AMD",
    accelerator="kvm",
    features=["avx", "avx512f", "sse2", "sse4a", "vaes"],
    models={"EPYC-v1": ["avx", "sse2"], "EPYC-Milan-v1": ["avx", "sse2", "vaes"], "Opteron_G1-v1": ["sse2"]},
)


@dataclass
class FakeHost:
    cpu: CpuView | HostError
    closed: list[bool] = field(default_factory=list)

    def get_cpu(self) -> CpuView:
        if isinstance(self.cpu, HostError):
            raise self.cpu
        return self.cpu

    def close(self) -> None:
        self.closed.append(True)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeHost]:
    hosts = {"node1": FakeHost(OLD), "node2": FakeHost(NEW)}

    def connect(self: Shell, connection: Connection) -> FakeHost:
        return hosts[connection.host]

    monkeypatch.setattr(Shell, "_connect", connect)
    return hosts


def test_the_richest_model_that_all_have_and_what_they_have_besides(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    run = shell("cpu", "baseline", "node1", "node2", "-f", "json")
    assert (run.status, run.json) == (
        0,
        {
            "cpu_model": "EPYC-v1,+sse4a",
            "model": "EPYC-v1",
            "features": ["sse4a"],
            "unused_node1": ["x2apic"],
            "unused_node2": ["avx512f", "vaes"],
        },
    )
    assert [host.closed for host in hosts.values()] == [[True], [True]]


def test_one_host_is_used_whole(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    run = shell("cpu", "baseline", "node2", "-f", "json")
    assert run.json["cpu_model"] == "EPYC-Milan-v1,+avx512f,+sse4a"
    assert run.json["unused_node2"] == []


def test_a_model_that_is_not_the_same_everywhere_is_none(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    other = {**NEW.models, "EPYC-v1": ["avx", "sse2", "vaes"]}
    hosts["node2"].cpu = msgspec.structs.replace(NEW, models=other)
    assert shell("cpu", "baseline", "node1", "node2", "-f", "json").json["model"] == "Opteron_G1-v1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vendor": "Intel"}, "node1 has AMD, node2 has Intel"),
        ({"accelerator": "tcg"}, "without KVM no guest moves while it runs: node2"),
        ({"models": {}}, "no model"),
    ],
)
def test_hosts_that_have_too_little_in_common(
    shell: Shell, hosts: dict[str, FakeHost], changes: dict[str, object], reason: str
) -> None:
    hosts["node2"].cpu = msgspec.structs.replace(NEW, **changes)
    run = shell("cpu", "baseline", "node1", "node2")
    assert run.status == 1 and reason in run.stderr


def test_a_host_that_cannot_say(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node2"].cpu = HostError("qemu does not work")
    assert shell("cpu", "baseline", "node1", "node2").status == 1
