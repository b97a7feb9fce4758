"""The devstack plugin, phase after phase: on a stand-in for devstack, with a real broker, switch and agent."""

from __future__ import annotations

import configparser
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import images
from sandbox.broker import Broker
from sandbox.switch import Switch

PROJECT = Path(__file__).parents[2]
DEVSTACK = Path(__file__).with_name("devstack_stand_in") / "devstack"
PROGRAMS = Path(sys.executable).parent
SECONDS = 180
UNIT = "devstack@compute-agent.service"
BRIDGE = "br-stack"

NOT_THE_PLUGINS = {"dest/data", "files", "systemd", "systemd/multi-user.target.wants", "etc", "run"}
"""Directories that were made on the way, and would be there in any devstack."""

LOCALRC = """\
enable_plugin compute-agent https://example.com/compute-agent
RABBIT_HOST=127.0.0.1
RABBIT_PASSWORD=secret
OVS_DATAPATH_TYPE=netdev
COMPUTE_AGENT_HOST=stack-1
COMPUTE_AGENT_BRIDGE={bridge}
COMPUTE_AGENT_CONF_DIR={top}/etc/compute-agent
COMPUTE_AGENT_RUN_DIR={top}/run/agent
COMPUTE_AGENT_CGROUP_DIR=/sys/fs/cgroup/stack-1
COMPUTE_AGENT_OVSDB_CONNECTION={switch}
COMPUTE_AGENT_IMAGE_SOURCES={images}
"""


class Stack:
    """One machine with devstack's directories, and its user."""

    def __init__(self, top: Path, broker: Broker, switch: Switch) -> None:
        self.top = top
        self.switch = switch
        self.config_file = top / "etc/compute-agent/compute-agent.conf"
        self.state = top / "dest/data/compute-agent"
        self.run_directory = top / "run/agent"
        self._broker = broker
        (top / "dest").mkdir(parents=True)
        (top / "dest/compute-agent").symlink_to(PROJECT)
        self.localrc()

    def localrc(self, *lines: str) -> None:
        """Write the file anew, with these lines at its end."""
        text = LOCALRC.format(
            bridge=BRIDGE, top=self.top, switch=self.switch.connection, images=images.cache_directory()
        )
        (self.top / "localrc").write_text(text + "".join(f"{line}\n" for line in lines))

    def devstack(self, *words: str, status: int = 0) -> str:
        """Run stack.sh, unstack.sh or clean.sh; all that it wrote."""
        environment = self._broker.environment | {
            "TOP_DIR": str(self.top),
            "STAND_IN_PYTHON_BIN": str(PROGRAMS),
            "STAND_IN_RABBIT_PORT": str(self._broker.port),
            "PYTHONPATH": str(PROJECT / "devstack"),
        }
        done = subprocess.run(
            [DEVSTACK, *words],
            env=environment,
            cwd=self.top,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def computectl(self, *words: str) -> object:
        command = [PROGRAMS / "computectl", "--config-file", self.config_file, *words, "-f", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def boots(self, bridge: str = BRIDGE) -> str:
        """A guest on this bridge; its uuid."""
        files = ["--kernel", str(images.kernel()), "--ramdisk", str(images.ramdisk())]
        size = ["--vcpus", "1", "--memory", "128", "--blank", "1", "--port", f"bridge={bridge}"]
        answer = self.computectl("boot", "tiny", *size, *files, "--wait")
        assert isinstance(answer, dict)
        return str(answer["instance_uuid"])

    def guests(self) -> list[int]:
        """Processes."""
        mark = f"COMPUTE_AGENT_GUEST={self.run_directory}/".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]

    @property
    def installed(self) -> list[str]:
        """What has been asked for."""
        return [line.split()[0] for line in (self.top / "installed").read_text().splitlines()]

    @property
    def agent(self) -> int:
        """The process that the unit runs."""
        return int((self.top / f"{UNIT}.pid").read_text())

    def files(self) -> set[str]:
        """All that is below devstack's directories, but for the stand-in's own notes."""
        own = {"localrc", "installed", f"{UNIT}.log", f"{UNIT}.pid"}
        return {str(path.relative_to(self.top)) for path in self.top.rglob("*")} - own


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


@pytest.fixture(scope="module")
def rabbit_user(broker: Broker) -> None:
    """What stack.sh has done to the broker when the plugin comes to it."""
    broker.control("add_user", "stackrabbit", "secret")


@pytest.fixture
def stack(directory: Path, broker: Broker, switch: Switch, rabbit_user: None) -> Iterator[Stack]:
    top = directory / f"ds{os.urandom(2).hex()}"
    stack = Stack(top, broker, switch)
    yield stack
    stack.localrc()
    stack.devstack("clean")


def test_phase_after_phase_to_an_agent_that_answers(stack: Stack, broker: Broker) -> None:
    before = stack.files()
    stack.devstack("stack", "pre-install")
    assert stack.installed == ["bindep"]
    stack.devstack("stack", "install")
    assert stack.installed == ["bindep", "develop"]
    assert not stack.config_file.exists()

    stack.devstack("stack", "post-config")
    assert stack.config_file.stat().st_mode & 0o777 == 0o640
    assert "compute_agent" in broker.control("list_vhosts").split()
    written = configparser.RawConfigParser()
    written.read(stack.config_file)
    assert written["DEFAULT"]["transport_url"].endswith("/compute_agent")
    assert written["agent"]["state_dir"] == str(stack.state)
    assert BRIDGE not in stack.switch.vsctl("list-br").split()

    stack.devstack("stack", "extra")
    shown = stack.computectl("host", "show")
    assert isinstance(shown, dict)
    assert shown["host"] == "stack-1"
    assert "openvswitch" in stack.devstack("stack", "test-config")  # a line of the doctor's
    systemd_accepts_the_unit(stack.top / "systemd")

    stack.devstack("clean")
    assert stack.files() - before <= NOT_THE_PLUGINS
    assert BRIDGE not in stack.switch.vsctl("list-br").split()


def systemd_accepts_the_unit(units: Path) -> None:
    """With its drop-in, which is the service's own unit but for what devstack decides."""
    command = ["systemd-analyze", "verify", "--man=no", units / UNIT]
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_stack_again_leaves_guests_alone_and_unstack_terminates_them(stack: Stack) -> None:
    stack.devstack("stack")
    uuid = stack.boots()
    agent, guests = stack.agent, stack.guests()
    assert len(guests) == 1

    stack.localrc("ENABLE_DEBUG_LOG_LEVEL=False")
    stack.devstack("stack")
    assert stack.agent != agent  # it has the new configuration
    assert stack.guests() == guests
    (row,) = stack.computectl("list")  # type: ignore[misc]
    assert (row["uuid"], row["vm_state"]) == (uuid, "active")

    agent = stack.agent
    stack.devstack("unstack")
    assert not Path(f"/proc/{agent}").exists()
    assert stack.guests() == []
    assert stack.switch.ports(BRIDGE) == []
    assert not [path for path in stack.files() if uuid in path]
    assert stack.config_file.exists()
    stack.devstack("unstack")  # again: nothing is left to do


def test_clean_removes_what_a_killed_agent_left_but_not_the_bridge_of_others(stack: Stack) -> None:
    before = stack.files()
    stack.localrc("COMPUTE_AGENT_BRIDGE=br-int")
    stack.devstack("stack")
    stack.boots("br-int")
    assert len(stack.switch.ports("br-int")) == 1
    os.kill(stack.agent, signal.SIGKILL)
    assert "compute-agent does not answer" in stack.devstack("clean")
    assert stack.guests() == []
    assert stack.switch.ports("br-int") == []
    assert stack.files() - before <= NOT_THE_PLUGINS


def test_systemd_accepts_the_services_own_unit(tmp_path: Path) -> None:
    """Where the program is installed; /usr/local/bin is mounted over, in the sandbox alone."""
    command = (
        'mount --bind "$1" /usr/local/bin && ln -s "$2/compute-agent" /usr/local/bin && systemd-analyze verify "$3"'
    )
    unit = PROJECT / "etc/systemd/compute-agent.service"
    words = ["unshare", "--mount", "sh", "-c", command, "sh", tmp_path, PROGRAMS, unit]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_controller_makes_the_virtual_host_only(stack: Stack, broker: Broker) -> None:
    stack.localrc("disable_service compute-agent", "COMPUTE_AGENT_VHOST=controller")
    stack.devstack("stack")
    assert "controller" in broker.control("list_vhosts").split()
    assert not stack.config_file.exists()
    assert not (stack.top / f"{UNIT}.pid").exists()


def test_a_compute_node_uses_the_broker_of_its_controller(stack: Stack, broker: Broker) -> None:
    """The controller's plugin has made the virtual host; there is no rabbitmqctl here that could."""
    stack.localrc("disable_service rabbit", "COMPUTE_AGENT_VHOST=elsewhere")
    stack.devstack("stack", "post-config")
    assert f"stackrabbit:secret@127.0.0.1:{broker.port}/elsewhere\n" in stack.config_file.read_text()
    assert "elsewhere" not in broker.control("list_vhosts").split()


BAD_SETTINGS = [
    ("COMPUTE_AGENT_STATE_DIR=relative/path", "COMPUTE_AGENT_STATE_DIR=relative/path"),
    ("COMPUTE_AGENT_STATE_DIR=/", "COMPUTE_AGENT_STATE_DIR=/"),
    ("COMPUTE_AGENT_RUN_DIR=/run", "COMPUTE_AGENT_RUN_DIR=/run"),
    ("COMPUTE_AGENT_CONF_DIR=/etc/../etc", "COMPUTE_AGENT_CONF_DIR=/etc/../etc"),
    ("COMPUTE_AGENT_CONF_DIR='/etc/a b'", "COMPUTE_AGENT_CONF_DIR=/etc/a b"),
    ("COMPUTE_AGENT_HOST=-x", "COMPUTE_AGENT_HOST=-x: must be a host name"),
    ("COMPUTE_AGENT_VHOST='a b'", "COMPUTE_AGENT_VHOST=a b"),
    ("COMPUTE_AGENT_BRIDGE=a-bridge-with-a-long-name", "must be the name of a bridge"),
    ("COMPUTE_AGENT_OVSDB_CONNECTION=/run/db.sock", "must be unix:PATH or tcp:ADDRESS:PORT"),
    ("disable_service rabbit; RABBIT_HOST=", "compute-agent needs RabbitMQ"),
    ("os_PACKAGE=rpm", "no support for compute-agent"),
]


@pytest.mark.parametrize(("line", "says"), BAD_SETTINGS, ids=lambda one: str(one)[:40])
def test_a_bad_setting_ends_stack_before_anything_is_changed(stack: Stack, line: str, says: str) -> None:
    before = stack.files()
    stack.localrc(line)
    assert says in stack.devstack("stack", status=1)
    assert stack.files() - before <= NOT_THE_PLUGINS
    assert not (stack.top / "installed").exists()


def test_a_value_that_the_agent_refuses_ends_stack(stack: Stack) -> None:
    stack.devstack("stack", "pre-install", "install", "post-config")
    stack.config_file.write_text(stack.config_file.read_text().replace("[agent]", "[agent]\nworkers = many", 1))
    assert "agent.workers" in stack.devstack("stack", "extra", status=1)
