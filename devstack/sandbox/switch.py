"""A private Open vSwitch: its own database and daemon, with the datapath in user space."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from sandbox.commands import end_process, run
from sandbox.service import Service

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_DATAPATH = "ovs-netdev"
_COMMAND_TIMEOUT = 20


class Switch(Service):
    """Open vSwitch in a directory. A context manager; one in a network namespace, as the datapath is one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bridges: list[str] = []

    @property
    def connection(self) -> str:
        """Of the database, as ovs-vsctl and the agent take it."""
        return f"unix:{self._directory / 'db.sock'}"

    def start(self) -> None:
        """Return when database and daemon answer; also after one of them was killed.

        :raises SandboxError: nothing is left running.
        """
        with ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._directory.mkdir(parents=True, exist_ok=True)
            if not self._database.exists():
                run("ovsdb-tool", "create", self._database, _SCHEMA)
            self.start_ovsdb()
            # Without it checksums that a guest left to its NIC are never made, and its TCP hangs. Read at start only.
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
            self.start_vswitchd()
            on_failure.pop_all()

    def stop(self) -> None:
        """End both, and remove the bridges' own interfaces, which outlive the daemon. May be repeated."""
        self.kill_vswitchd()
        self.kill_ovsdb()
        present = {name for _, name in socket.if_nameindex()}
        for interface in (*self._bridges, _DATAPATH):
            if interface in present:
                run("ip", "link", "delete", interface)
        self._bridges.clear()

    def add_bridge(self, name: str, address: str | None = None) -> None:
        """Add a bridge; with `address` (``10.0.0.1/24``) the host itself is on it, through the bridge's own port."""
        self.vsctl("--may-exist", "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")
        self._bridges.append(name)
        if address is not None:
            run("ip", "address", "replace", address, "dev", name)
            run("ip", "link", "set", name, "up")

    def ports(self, bridge: str) -> list[str]:
        """The ports of a bridge, without its own."""
        return self.vsctl("list-ports", bridge).split()

    def vsctl(self, *arguments: str) -> str:
        """What ``ovs-vsctl`` says.

        :raises SandboxError: it refused, or had to wait too long for the daemon.
        """
        return run("ovs-vsctl", f"--db={self.connection}", f"--timeout={_COMMAND_TIMEOUT}", *arguments)

    def start_ovsdb(self) -> None:
        """Return when the database takes connections. Nothing happens where it runs."""
        self._start("ovsdb-server", f"--remote=punix:{self._directory / 'db.sock'}", str(self._database))

    def start_vswitchd(self) -> None:
        """Return when the daemon has put the database into effect. Nothing happens where it runs."""
        self._start("ovs-vswitchd", self.connection)

    def kill_ovsdb(self) -> None:
        """SIGKILL the database server. Nothing happens where it does not run."""
        self._kill("ovsdb-server")

    def kill_vswitchd(self) -> None:
        """SIGKILL the daemon: the datapath stops too. Nothing happens where it does not run."""
        self._kill("ovs-vswitchd")

    @property
    def _database(self) -> Path:
        return self._directory / "conf.db"

    def _start(self, daemon: str, *arguments: str) -> None:
        """`--detach` is the event: the command returns when the daemon serves."""
        if self._pid(daemon) is not None:
            return
        run(
            daemon,
            *arguments,
            "--detach",
            "--no-chdir",
            f"--pidfile={self._pidfile(daemon)}",
            f"--unixctl={self._directory / daemon}.ctl",
            f"--log-file={self._directory / daemon}.log",
            "-vconsole:off",
            "-vsyslog:off",
        )

    def _kill(self, daemon: str) -> None:
        pid = self._pid(daemon)
        if pid is None:
            return
        end_process(pid)
        self._pidfile(daemon).unlink(missing_ok=True)

    def _pid(self, daemon: str) -> int | None:
        pidfile = self._pidfile(daemon)
        return int(pidfile.read_text()) if pidfile.exists() else None

    def _pidfile(self, daemon: str) -> Path:
        return self._directory / f"{daemon}.pid"
