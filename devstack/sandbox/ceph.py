"""A private Ceph of one node, on the loopback or another address: a monitor, an OSD and, if wanted, a manager."""

from __future__ import annotations

import signal
import socket
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from sandbox.ceph_files import client_configuration, daemon_configuration, monitor_keyring, new_key
from sandbox.commands import SandboxError, run
from sandbox.notify import tail
from sandbox.service import Service

Store = Literal["memstore", "bluestore"]
"""In memory: there at once, and gone when the OSD is killed. On disk: some seconds later, and it outlives that."""

_ANSWER_TIMEOUT = 60.0


class Ceph(Service):
    """A cluster in a directory, with one pool and one user, whose files lie as on a compute node. A context manager."""

    pool = "volumes"
    user = "compute"
    """``client.compute``; may use every pool as ``profile rbd`` has it."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "ceph",
        store: Store = "memstore",
        with_manager: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        """`directory` is no other cluster's, and short, because sockets are made in it.

        Without a manager no pool knows how full it is.
        """
        self.name = name
        """Of the cluster: what its configuration is called."""
        self.conf_dir = directory / "etc"
        self.secret_dir = directory / "secrets"
        self.secret_uuid = str(uuid.uuid4())
        self.key = new_key()
        """The user's, which nobody else may ever see."""
        self.fsid = str(uuid.uuid4())
        self.address = address
        self.port = _free_port()
        """The monitor's."""
        self.log = directory / "output.log"
        self._directory = directory
        self._store = store
        self._names = ["mon.a", "osd.0", *(["mgr.x"] if with_manager else [])]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def conf(self) -> Path:
        """What a client reads."""
        return self.conf_dir / f"{self.name}.conf"

    def options(self) -> str:
        """What an agent is told to make its disks here."""
        values = {
            "conf_dir": self.conf_dir,
            "secret_dir": self.secret_dir,
            "cluster_name": self.name,
            "pool": self.pool,
            "user": self.user,
            "secret_uuid": self.secret_uuid,
        }
        return "\n".join(f"{name} = {value}" for name, value in values.items())

    def start(self) -> None:
        """Return when the pool takes images, about 1 s later (5 on disk).

        :raises SandboxError: with the end of its log; no process is left.
        :raises FileExistsError: the directory has been one's before.
        """
        with ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._write_files()
            self._make_monitor()
            self.start_daemon("mon.a")
            self._make_osd()
            for daemon in self._names[1:]:
                self.start_daemon(daemon)
            self.create_pool(self.pool)
            on_failure.pop_all()

    def stop(self) -> None:
        """The end of it: SIGKILL for all, as nobody wants what they would write now. May be repeated."""
        for daemon in list(self._daemons):
            self.kill_daemon(daemon)

    def kill_daemon(self, daemon: str) -> None:
        """SIGKILL ``mon.a``, ``osd.0`` or ``mgr.x``. Nothing happens where it does not run."""
        process = self._daemons.pop(daemon, None)
        if process is not None:
            process.kill()
            process.wait()

    def freeze_daemon(self, daemon: str) -> None:
        """It takes connections and answers nobody, like one on a host that hangs; nothing is lost."""
        self._daemons[daemon].send_signal(signal.SIGSTOP)

    def thaw_daemon(self, daemon: str) -> None:
        """It goes on where it was frozen."""
        self._daemons[daemon].send_signal(signal.SIGCONT)

    def start_daemon(self, daemon: str) -> None:
        """Start one, again after it was killed. Who asks it for something is served within about 2 s."""
        kind, _, name = daemon.partition(".")
        with self.log.open("ab") as log:
            self._daemons[daemon] = subprocess.Popen(
                [f"ceph-{kind}", "-f", "-i", name, "-c", self._conf],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def create_pool(self, name: str) -> None:
        """Return when it takes images."""
        self.command("osd", "pool", "create", name, "8")
        self.rbd("pool", "init", name)

    def command(self, *words: str) -> str:
        """What ``ceph`` says, as the administrator.

        :raises SandboxError: it refused, or had no answer in time.
        """
        return self._run("ceph", *words)

    def rbd(self, *words: str) -> str:
        """What ``rbd`` says, as the administrator.

        :raises SandboxError: it refused, or had no answer in time.
        """
        return self._run("rbd", *words)

    def rados(self, *words: str) -> str:
        """What ``rados`` says, as the administrator.

        :raises SandboxError: it refused, or had no answer in time.
        """
        return self._run("rados", *words)

    @property
    def _conf(self) -> Path:
        return self._directory / "daemons.conf"

    def _write_files(self) -> None:
        for place in ("etc", "secrets", "run", "mon", "osd", "mgr"):
            (self._directory / place).mkdir(parents=True)
        self._conf.write_text(daemon_configuration(self._directory, self.fsid, self.address, self.port, self._store))
        self.conf.write_text(client_configuration(self.fsid, self.address, self.port))
        (self._directory / "keyring").write_text(monitor_keyring(self.user, self.key))
        secret = self.secret_dir / self.secret_uuid
        secret.touch(mode=0o600)
        secret.write_text(self.key)

    def _make_monitor(self) -> None:
        self._run("monmaptool", "--create", "--clobber", "--fsid", self.fsid, "--enable-all-features",
                  "--addv", "a", f"[v2:{self.address}:{self.port}]", str(self._directory / "monmap"))  # fmt: skip
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(self._directory / "monmap"),
                  "--keyring", str(self._directory / "keyring"))  # fmt: skip

    def _make_osd(self) -> None:
        osd = str(uuid.uuid4())
        self.command("osd", "new", osd, "0")
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)

    def _run(self, program: str, *words: str) -> str:
        try:
            return run(program, "-c", self._conf, *words, seconds=_ANSWER_TIMEOUT)
        except SandboxError as error:
            raise SandboxError(f"{error}\n{tail(self.log)}") from error


def _free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port
