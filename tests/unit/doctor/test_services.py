"""What the doctor makes of what the switch, the broker, QEMU and KVM say."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from amqp.exceptions import AccessRefused, NotAllowed

from compute_agent.doctor.broker import judge_refusal, judge_tls
from compute_agent.doctor.broker_queues import judge_message_limit, judge_quorum
from compute_agent.doctor.finding import Status
from compute_agent.doctor.qemu import judge_emulation, judge_kvm
from compute_agent.doctor.settings import BrokerHost, BrokerSettings
from compute_agent.doctor.switch import BridgeState, SwitchState, judge_bridge, judge_daemon

HOST = BrokerHost(hostname="mq1.example.com", port=5671, user="agent", password="secret")
BROKER = BrokerSettings(hosts=(HOST,), virtual_host="cloud", queue="compute")
MIB = 2**20


def bridge(datapath: str = "system", local_port: int | None = 65534, error: str | None = None) -> BridgeState:
    return BridgeState(datapath=datapath, local_port=local_port, error=error)


def switch(*, daemon_runs: bool = True, changes_behind: int = 0) -> SwitchState:
    return SwitchState(version="3.1.0", daemon_runs=daemon_runs, changes_behind=changes_behind, bridge=bridge())


@pytest.mark.parametrize(
    ("state", "status", "says"),
    [
        (switch(), Status.OK, "3.1.0 at unix:/x"),
        (switch(daemon_runs=False), Status.FAILURE, "ovs-vswitchd does not run"),
        (switch(changes_behind=2), Status.WARNING, "2 changes"),
    ],
)
def test_the_switchs_daemon(state: SwitchState, status: Status, says: str) -> None:
    finding = judge_daemon(state, "unix:/x")
    assert (finding.status, bool(finding.remedy)) == (status, status is not Status.OK)
    assert says in finding.found


@pytest.mark.parametrize(
    ("state", "status", "remedy"),
    [
        (bridge(), Status.OK, ""),
        (bridge("netdev"), Status.WARNING, "datapath_type=system"),
        (bridge(error="could not open network device br-int"), Status.FAILURE, "modprobe openvswitch"),
        (bridge(local_port=None), Status.FAILURE, "modprobe openvswitch"),
        (None, Status.FAILURE, "ovs-vsctl add-br br-int"),
    ],
)
def test_the_integration_bridge(state: BridgeState | None, status: Status, remedy: str) -> None:
    finding = judge_bridge(state, kernel_has_it=True)
    assert finding.status is status
    assert remedy in finding.remedy


def test_a_kernel_without_open_vswitch_is_named() -> None:
    assert "no openvswitch module" in judge_bridge(bridge("netdev"), kernel_has_it=False).found


@pytest.mark.parametrize(
    ("error", "says", "remedy"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused", "systemctl start rabbitmq-server"),
        (TimeoutError("timed out"), "timed out", "systemctl start rabbitmq-server"),
        (AccessRefused("Login was refused", (0, 0)), "refuses user agent", "rabbitmqctl change_password agent"),
        (NotAllowed("vhost cloud not found", (0, 0)), "virtual host cloud", "rabbitmqctl add_vhost 'cloud'"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "verify failed", "ssl_ca_file"),
    ],
)
def test_a_broker_that_refuses(error: Exception, says: str, remedy: str) -> None:
    finding = judge_refusal(error, BROKER, HOST)
    assert finding.status is Status.FAILURE
    assert says in finding.found
    assert remedy in finding.remedy
    assert "secret" not in finding.found + finding.remedy


def test_a_password_is_not_in_a_traceback() -> None:
    assert "secret" not in repr(BROKER)


@pytest.mark.parametrize(
    ("settings", "hostname", "status"),
    [
        (BROKER, "mq1.example.com", Status.WARNING),
        (BROKER, "10.0.0.1", Status.WARNING),
        (BROKER, "127.0.0.1", Status.OK),
        (BROKER, "::1", Status.OK),
        (BROKER, "localhost", Status.OK),
        (replace(BROKER, tls=True), "mq1.example.com", Status.WARNING),
        (replace(BROKER, tls=True, ca_file=Path("/ca.pem")), "mq1.example.com", Status.OK),
    ],
)
def test_who_can_read_along(settings: BrokerSettings, hostname: str, status: Status) -> None:
    finding = judge_tls(settings, replace(HOST, hostname=hostname))
    assert (finding.status, "ssl" in finding.remedy) == (status, status is not Status.OK)


@pytest.mark.parametrize(
    ("settings", "refusal", "status"),
    [
        (BROKER, None, Status.OK),
        (BROKER, "no such type", Status.OK),
        (replace(BROKER, durable=False), None, Status.WARNING),
        (replace(BROKER, quorum=True), None, Status.OK),
        (replace(BROKER, quorum=True), "no such type", Status.FAILURE),
    ],
)
def test_the_kind_of_queues(settings: BrokerSettings, refusal: str | None, status: Status) -> None:
    finding = judge_quorum(settings, refusal)
    assert (finding.status, "set [oslo_messaging_rabbit]" in finding.remedy) == (status, status is not Status.OK)


@pytest.mark.parametrize(
    ("refusal", "size", "status", "says"),
    [
        ("message size 67108864 is larger than configured max size 16777216", 64 * MIB, Status.OK, "16 MiB"),
        ("message size 67108864 larger than max size 33554432", 64 * MIB, Status.OK, "32 MiB"),
        ("too large", 8 * MIB, Status.OK, "less than 8 MiB"),
        ("message size 1048576 is larger than configured max size 65536", MIB, Status.WARNING, "0.0625 MiB"),
    ],
)
def test_the_largest_message(refusal: str, size: int, status: Status, says: str) -> None:
    finding = judge_message_limit(f"PRECONDITION_FAILED - {refusal}", size)
    assert finding.status is status
    assert says in finding.found


def test_qemu_under_kvm() -> None:
    assert judge_kvm("7.2.22", None).status is Status.OK
    finding = judge_kvm("7.2.22", "QEMU was ended by SIGABRT: failed to set MSR")
    assert finding.status is Status.FAILURE
    assert "SIGABRT" in finding.found
    assert "accelerator = tcg" in finding.remedy


def test_qemu_that_emulates() -> None:
    assert judge_emulation("7.2.22", None).status is Status.WARNING
    assert judge_emulation("7.2.22", "it said nothing").status is Status.FAILURE
