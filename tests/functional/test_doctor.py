"""computectl doctor on real parts, whole and broken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.broker import Broker
from sandbox.commands import run
from sandbox.switch import Switch
from tests.functional.guests import until

COMPUTECTL = Path(sys.executable).with_name("computectl")
SECONDS = 60


@dataclass(frozen=True)
class Line:
    """A finding as `-f json` has it."""

    status: str
    check: str
    found: str
    remedy: str


@dataclass
class Patient:
    """A node's configuration, to be made worse before it is looked at."""

    directory: Path
    switch: Switch
    url: str
    state_dir: str = ""
    more: str = ""

    @property
    def config_file(self) -> Path:
        return self.directory / "compute-agent.conf"

    def write(self) -> None:
        state_dir = self.state_dir or f"{self.directory}/state"
        self.config_file.write_text(
            f"[DEFAULT]\nhost = patient\ntransport_url = {self.url}\n"
            f"[agent]\nstate_dir = {state_dir}\nrun_dir = {self.directory}/run\n"
            f"[network]\novsdb_connection = {self.switch.connection}\n"
            f"[storage]\nimage_sources = {self.directory}\n{self.more}\n"
        )

    def examine(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.write()
        command = [COMPUTECTL, "--config-file", self.config_file, "doctor", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)

    def lines(self) -> list[Line]:
        done = self.examine("-f", "json")
        lines = [Line(**line) for line in json.loads(done.stdout)]
        assert done.returncode == int(any(line.status == "failure" for line in lines))
        assert done.stderr == ""
        assert "secret" not in done.stdout
        for line in lines:
            assert bool(line.remedy) == (line.status != "ok"), line
        return lines

    def line(self, check: str) -> Line:
        (line,) = [line for line in self.lines() if line.check == check]
        return line


@pytest.fixture
def patient(tmp_path: Path, broker: Broker, switch: Switch) -> Patient:
    return Patient(tmp_path, switch, broker.transport_url)


@pytest.fixture(scope="module")
def poor(broker: Broker) -> Iterator[str]:
    """A user who may publish and consume, but make nothing, in the virtual host `cloud`."""
    broker.control("add_vhost", "cloud")
    broker.control("add_user", "poor", "secret")
    broker.control("set_permissions", "--vhost", "cloud", "poor", "^$", ".*", ".*")
    yield f"rabbit://poor:secret@127.0.0.1:{broker.port}"
    broker.control("delete_user", "poor")
    broker.control("delete_vhost", "cloud")


def of(lines: list[Line], check: str) -> list[Line]:
    return [line for line in lines if line.check == check]


def test_a_node_whose_parts_work(patient: Patient, broker: Broker, switch: Switch) -> None:
    interfaces = socket.if_nameindex()
    lines = {line.check: line for line in patient.lines()}
    for check in ("configuration", "isolation", "tun", "openvswitch", "broker", "broker-rights", "agent.state_dir"):
        assert lines[check].status == "ok", lines[check]
    assert "host patient" in lines["configuration"].found
    assert f"at 127.0.0.1:{broker.port}, user guest" in lines["broker"].found
    assert "quorum queues are possible" in lines["broker-queues"].found
    assert "user space" in lines["datapath"].found
    assert lines["datapath"].status == "warning"
    assert "max_message_size" in lines["broker-messages"].remedy
    nothing_is_left(patient, broker)
    assert socket.if_nameindex() == interfaces


def nothing_is_left(patient: Patient, broker: Broker) -> None:
    assert list(patient.directory.iterdir()) == [patient.config_file]
    assert "doctor" not in broker.control("list_queues", "name")
    assert "doctor" not in broker.control("list_exchanges", "name")


def test_the_report_of_this_machine_is_true(patient: Patient) -> None:
    """Whatever it is: each line is compared with what the machine shows in another way."""
    lines = {line.check: line for line in patient.lines()}
    assert (lines["vhost-net"].status == "ok") == Path("/dev/vhost-net").exists()
    protocols = Path("/proc/sys/net/ipv4/tcp_available_ulp")
    assert (lines["kernel-tls"].status == "ok") == (protocols.exists() and "tls" in protocols.read_text())
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    assert (lines["cgroup"].status == "ok") == (controllers.exists() and "memory" in controllers.read_text())
    assert (lines["iommu"].status == "ok") == bool(list(Path("/sys/kernel/iommu_groups").iterdir()))
    assert os.uname().release in lines["kernel"].found
    if lines["qemu"].status == "ok":
        assert lines["kvm"].status == "ok"


def test_lines_for_a_person(patient: Patient) -> None:
    report = patient.examine().stdout.splitlines()
    assert report[0].split() == ["ok", "configuration", f"{patient.config_file}:", "this", "is", "host", "patient"]
    after_warning = report[[line.split()[:2] for line in report].index(["warning", "datapath"]) + 1]
    assert after_warning.strip().startswith("→ modprobe openvswitch")


def test_a_limit_on_messages_is_found(patient: Patient, broker: Broker) -> None:
    broker.control("eval", "application:set_env(rabbit, max_message_size, 12345678).")
    try:
        line = patient.line("broker-messages")
    finally:
        broker.control("eval", "application:set_env(rabbit, max_message_size, 134217728).")
    assert (line.status, line.found) == ("ok", "takes at most 11.7738 MiB")


def test_brokers_that_refuse(patient: Patient, broker: Broker, poor: str) -> None:
    """Three of them at once, as if they were one cluster's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port, closed_port = silent.getsockname()[1], free_port()
        patient.url = (
            f"rabbit://guest:secret@127.0.0.1:{broker.port},guest:secret@127.0.0.1:{closed_port},"
            f"guest:secret@127.0.0.1:{silent_port}/cloud"
        )
        wrong_password, closed, silence = of(patient.lines(), "broker")
    assert f"127.0.0.1:{broker.port} refuses user guest" in wrong_password.found
    assert "rabbitmqctl change_password guest" in wrong_password.remedy
    assert f"127.0.0.1:{closed_port} cannot be reached: Connection refused" in closed.found
    assert "systemctl start rabbitmq-server" in closed.remedy
    assert f"127.0.0.1:{silent_port} cannot be reached: timed out" in silence.found
    assert {line.status for line in (wrong_password, closed, silence)} == {"failure"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_virtual_host_that_is_not_there(patient: Patient, poor: str) -> None:
    patient.url = f"{poor}/clouds"
    line = patient.line("broker")
    assert (line.status, "no virtual host clouds for user poor" in line.found) == ("failure", True)
    assert "rabbitmqctl add_vhost 'clouds'; rabbitmqctl set_permissions -p 'clouds' poor" in line.remedy


def test_a_user_without_the_right_to_make_queues(patient: Patient, poor: str) -> None:
    patient.url = f"{poor}/cloud"
    lines = patient.lines()
    (rights,) = of(lines, "broker-rights")
    assert rights.status == "failure"
    assert "user poor may not: ACCESS_REFUSED" in rights.found
    assert rights.remedy == "on the broker: rabbitmqctl set_permissions -p 'cloud' poor '.*' '.*' '.*'"
    assert of(lines, "broker-queues") == of(lines, "broker-messages") == []


def test_agents_that_disagree_about_the_queues(patient: Patient, broker: Broker) -> None:
    broker.control("add_vhost", "old")
    broker.control("set_permissions", "--vhost", "old", "guest", ".*", ".*", ".*")
    declare = (
        'rabbit_amqqueue:declare(rabbit_misc:r(<<"old">>, queue, <<"compute">>), false, false, [], none, <<"t">>).'
    )
    broker.control("eval", declare)
    patient.url = broker.transport_url.removesuffix("/") + "old"
    line = patient.line("broker-queues")
    broker.control("delete_vhost", "old")
    assert line.status == "failure"
    assert "inequivalent arg 'durable' for queue 'compute'" in line.found
    assert "rabbitmqctl delete_queue -p 'old' compute" in line.remedy


def test_a_switch_without_its_daemon(patient: Patient, switch: Switch) -> None:
    switch.kill_vswitchd()
    try:
        line = patient.line("openvswitch")
    finally:
        switch.start_vswitchd()
    assert (line.status, line.remedy) == ("failure", "systemctl restart openvswitch-switch")
    assert "ovs-vswitchd does not run" in line.found
    assert patient.line("openvswitch").status == "ok"


def test_a_switch_without_its_database(patient: Patient, switch: Switch) -> None:
    switch.kill_ovsdb()
    try:
        line = patient.line("openvswitch")
    finally:
        switch.start_ovsdb()
    assert line.status == "failure"
    assert f"no database at {switch.connection}: Connection refused" in line.found
    assert "[network] ovsdb_connection" in line.remedy
    until(lambda: patient.line("openvswitch").status == "ok", 60)  # ovs-vswitchd tries again after up to 8 s


def test_directories_that_cannot_be_written_to(patient: Patient, tmp_path: Path) -> None:
    read_only = tmp_path / "ro"
    read_only.mkdir()
    run("mount", "-t", "tmpfs", "-o", "ro", "ro", read_only)
    try:
        patient.state_dir = f"{read_only}/state"
        patient.more = "disk_dir = /proc/disks\nimage_dir = /dev/null/images\n"
        lines = {line.check: line for line in patient.lines()}
    finally:
        run("umount", read_only)
    for check, says in (
        ("agent.state_dir", f"Read-only file system in {read_only}"),
        ("storage.disk_dir", "No such file or directory in /proc"),
        ("storage.image_dir", "Not a directory in /dev/null"),
    ):
        assert (lines[check].status, says in lines[check].found) == ("failure", True), lines[check]
        section, _, name = check.partition(".")
        assert f"set [{section}] {name}" in lines[check].remedy


def test_an_unusable_configuration_ends_nothing(patient: Patient) -> None:
    patient.more = "[virt]\naccelerator = xen\nqemu_binry = qemu\n"
    lines = patient.lines()
    assert [line.status for line in of(lines, "configuration")] == ["failure", "failure"]
    assert [line.remedy.split()[1] for line in of(lines, "configuration")] == ["virt.accelerator", "virt.qemu_binry"]
    assert of(lines, "broker")[0].status == of(lines, "openvswitch")[0].status == "ok"


def test_a_configuration_that_is_not_there(patient: Patient) -> None:
    command = [COMPUTECTL, "--config-file", patient.directory / "none.conf", "doctor", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    lines = [Line(**line) for line in json.loads(done.stdout)]
    assert (done.returncode, lines[0].check, lines[0].status) == (1, "configuration", "failure")
    assert "No such file or directory" in lines[0].found
    assert of(lines, "tun")[0].status == "ok"


def test_help_is_fast_and_does_not_examine() -> None:
    code = (
        "import sys; from compute_agent.cli.computectl import main; main(['help', 'doctor']);"
        "assert not {'kombu', 'oslo_messaging', 'compute_agent.doctor'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, "before production" in done.stdout) == (0, True), done.stderr
