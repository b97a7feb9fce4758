"""A real ovsdb-server in a directory, and a stand-in for ovs-vswitchd: the real one needs root."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from ovs.db.idl import Idl, SchemaHelper, Transaction

from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.schema import vswitch_schema

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
PATH = "/usr/bin:/usr/sbin:/bin:/sbin"


class SwitchServer:
    """ovsdb-server with a bridge br-int; nobody assigns port numbers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "db.sock"
        self._pidfile = directory / "pid"
        self.connection = f"unix:{self._socket}"

    def __enter__(self) -> SwitchServer:
        _run("ovsdb-tool", "create", str(self._directory / "conf.db"), str(SCHEMA))
        self.start()
        self.vsctl("init")
        self.vsctl("add-br", "br-int")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """`--detach` is the event: the command returns when the server takes connections."""
        options = [f"--remote=punix:{self._socket}", f"--pidfile={self._pidfile}", "--detach", "--no-chdir"]
        quiet = [f"--unixctl={self._directory / 'ctl'}", "-vconsole:off", "-vsyslog:off"]
        _run("ovsdb-server", *options, *quiet, str(self._directory / "conf.db"))

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Nothing happens where it is."""
        if self._pidfile.exists():
            server = os.pidfd_open(int(self._pidfile.read_text()))
            signal.pidfd_send_signal(server, signal.SIGKILL)
            assert select.select([server], [], [], 10)[0]
            os.close(server)
            self._pidfile.unlink()

    def freeze(self) -> None:
        """It answers nobody until `thaw`."""
        os.kill(int(self._pidfile.read_text()), signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        os.kill(int(self._pidfile.read_text()), signal.SIGCONT)

    def vsctl(self, *arguments: str) -> str:
        """What ovs-vsctl says; it waits for no daemon."""
        return _run("ovs-vsctl", f"--db={self.connection}", "--no-wait", "--timeout=10", *arguments)

    def ports(self) -> list[str]:
        """Names of the ports on br-int."""
        return self.vsctl("list-ports", "br-int").split()

    @property
    def configuration(self) -> int:
        """How many transactions there were that asked for attention."""
        return int(self.vsctl("get", "Open_vSwitch", ".", "next_cfg"))


class StandIn:
    """Does what ovs-vswitchd does to the database: numbers new interfaces, or says what is wrong with them."""

    def __init__(self, connection: str) -> None:
        self.faults: dict[str, str] = {}
        """Interface name to what is said about it."""
        self.forgotten: set[str] = set()
        """Interfaces that get neither number nor fault."""
        self._next_number = 1
        self._idl = Idl(connection, _schema())
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join(10)
        self._idl.close()
        os.close(self._stop)

    def _run(self) -> None:
        while not select.select([self._stop], [], [], 0)[0]:
            self._idl.run()
            if self._idl.state == Idl.IDL_S_MONITORING:
                self._answer()
            poller = Poller()
            poller.fd_wait(self._stop, select.POLLIN)
            self._idl.wait(poller)
            poller.block()

    def _answer(self) -> None:
        transaction = Transaction(self._idl)
        for root in self._idl.tables["Open_vSwitch"].rows.values():
            if root.cur_cfg != root.next_cfg:
                root.cur_cfg = root.next_cfg
        for interface in self._idl.tables["Interface"].rows.values():
            if not interface.ofport and interface.name not in self.forgotten:
                self._number(interface)
        transaction.commit()

    def _number(self, interface: Any) -> None:
        if interface.name in self.faults:
            interface.ofport, interface.error = -1, self.faults[interface.name]
        else:
            interface.ofport = self._next_number
            self._next_number += 1


def _schema() -> SchemaHelper:
    helper = SchemaHelper(schema_json=vswitch_schema())
    helper.register_all()
    return helper


def _run(*command: str) -> str:
    done = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
