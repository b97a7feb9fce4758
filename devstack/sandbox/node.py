"""A compute node: the real agent with a configuration, directories and a client of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # before oslo.messaging, which the next two bring along, is imported

from compute_agent.rpc.client import ComputeClient  # noqa: E402
from compute_agent.rpc.transport import connect  # noqa: E402
from compute_agent.virt.settings import GUEST_UIDS  # noqa: E402
from sandbox.ceph import Ceph  # noqa: E402
from sandbox.commands import SandboxError, end_process  # noqa: E402
from sandbox.images import cache_directory  # noqa: E402
from sandbox.notify import Process, ReadySocket, tail, wait_for_end  # noqa: E402
from sandbox.nursery import Nursery  # noqa: E402

_AGENT = Path(sys.executable).with_name("compute-agent")
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0

_uid_bases = count(1_900_000_000, GUEST_UIDS)
"""Two agents on one machine must not share users: a guest's process is known by its own."""

_CONFIGURATION = """\
[DEFAULT]
host = {host}
transport_url = {transport_url}

[agent]
state_dir = {directory}/state
run_dir = {directory}/run

[virt]
guest_uid_base = {guest_uid_base}
cgroup_dir = /sys/fs/cgroup/{host}
{virt}

[migration]
address = 127.0.0.1

[network]
ovsdb_connection = {switch}

[storage]
image_sources = {cache},{image_source}
volume_dirs = {volumes}
snapshot_dir = {directory}/snapshots
backup_dir = {directory}/backups
{storage}

[ceph]
server_uid_base = {server_uid_base}
server_cgroup_dir = /sys/fs/cgroup/{host}-servers
{ceph}
"""


class Node:
    """One agent. Guests outlive it, as everywhere; but not the end of the ``with`` block."""

    def __init__(
        self, directory: Path, transport_url: str, switch: str, host: str = "node1", ceph: Ceph | None = None
    ) -> None:
        """`directory` must be short (40 bytes), because sockets are made in it; `switch` is OVSDB's connection."""
        self.directory = directory
        self.host = host
        self.image_source = directory / "source"
        """From here, and from the cache of `sandbox.images`, the agent takes images."""
        self.volumes = directory / "volumes"
        """Here volumes in files may be."""
        self.storage, self.virt = "", ""
        """More lines of the sections [storage] and [virt], from the next start on."""
        self.program: Sequence[str | Path] = [_AGENT]
        """What is run, from the next start on."""
        self.nursery: Nursery | None = None
        """Whose agents are run in place of `program`, if any."""
        self.config_file = directory / "compute-agent.conf"
        self.log = directory / "agent.log"
        self._transport_url = transport_url
        self._switch = switch
        self.ceph = ceph
        self.secrets = ceph.secret_dir if ceph else directory / "secrets"
        self._guest_uid_base, self._server_uid_base = next(_uid_bases), next(_uid_bases)
        self._process: Process | None = None
        self._notify: ReadySocket | None = None

    def __enter__(self) -> Node:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self._process is not None:
            self.stop()
        if self.nursery is not None:
            self.nursery.close()
        for pid in self.qemu_pids():
            os.kill(pid, signal.SIGKILL)

    @cached_property
    def client(self) -> ComputeClient:
        """A controller's view of this node."""
        return ComputeClient(connect(self._transport_url), self.host)

    @property
    def pid(self) -> int | None:
        """The agent's, while it runs."""
        return self._process.pid if self._process is not None else None

    def memory(self, kind: str) -> int:
        """MiB of the agent's: ``VmRSS``, or the most that this has been, ``VmHWM``."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [one for one in lines if one.startswith(f"{kind}:")]
        return int(line.split()[1]) // 1024

    def start(self) -> None:
        """Return when the agent says that it serves.

        :raises SandboxError: with the end of its log.
        """
        self._begin()
        assert self._process is not None and self._notify is not None
        self._notify.wait(self._process, _START_TIMEOUT, self.log)

    def start_to_die(self) -> None:
        """Start an agent that will kill itself before anybody needs it; return when it has."""
        self._begin()
        self.await_death()

    def await_death(self) -> None:
        """Return when the agent has killed itself.

        :raises SandboxError: it has not, in time, or ended otherwise.
        """
        status = self._end(None)
        if status != -signal.SIGKILL:
            raise SandboxError(f"ended with status {status}\n{tail(self.log)}")

    def _begin(self) -> None:
        self._write_configuration()
        self._notify = ReadySocket(self.directory / "notify")  # to the agent's end, as systemd's
        arguments, environment = ["--config-file", str(self.config_file)], {"NOTIFY_SOCKET": str(self._notify.path)}
        if self.nursery:
            self._process = self.nursery.start(arguments, environment, self.log)
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, *arguments],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> int:
        """Ask the agent to end (SIGTERM); its exit status.

        :raises SandboxError: it did not end in time; it has been killed.
        """
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the agent."""
        self._end(signal.SIGKILL)

    def keep_secret(self, secret: str) -> str:
        """The uuid by which the agent finds it."""
        secret_uuid = str(uuid.uuid4())
        path = self.secrets / secret_uuid
        path.touch(mode=0o600)
        path.write_text(secret)
        return secret_uuid

    def restart(self) -> None:
        """Stop and start the agent."""
        self.stop()
        self.start()

    def qemu_pids(self) -> list[int]:
        """The processes of this node's guests, whoever started them."""
        return list(self._guests())

    def running(self) -> list[str]:
        """The uuid of each such process's instance."""
        return [Path(directory.decode()).name for directory in self._guests().values()]

    def end_guest(self, instance_uuid: str) -> bool:
        """SIGKILL its processes, and return when they have ended; whether there were any."""
        pids = [pid for pid, directory in self._guests().items() if Path(directory.decode()).name == instance_uuid]
        for pid in pids:
            end_process(pid)
        return bool(pids)

    def _guests(self) -> dict[int, bytes]:
        """Run directories by pid."""
        name, mark = b"COMPUTE_AGENT_GUEST=", bytes(self.directory / "run") + b"/"
        found = {pid: word.removeprefix(name) for pid in _processes() for word in _environment(pid) if name in word}
        return {pid: directory for pid, directory in found.items() if directory.startswith(mark)} | self._forked()

    def _forked(self) -> dict[int, bytes]:
        """The same of machines of our own, which have executed nothing: they are known by their users."""
        owners = {
            path.stat().st_uid: bytes(path) for path in (self.directory / "run/guests").glob("*") if path.is_dir()
        }
        owners.pop(os.geteuid(), None)
        return {pid: owners[uid] for pid in _processes() if (uid := _user(pid)) in owners}

    def _end(self, number: signal.Signals | None) -> int:
        process, self._process = self._process, None
        if process is None or self._notify is None:
            raise SandboxError("the agent was not started")
        if number is not None:
            process.send_signal(number)
        try:
            return wait_for_end(process, _STOP_TIMEOUT)
        finally:
            self._notify.close()

    def _write_configuration(self) -> None:
        self.image_source.mkdir(parents=True, exist_ok=True)
        self.volumes.mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(exist_ok=True)
        text = _CONFIGURATION.format(
            host=self.host,
            transport_url=self._transport_url,
            directory=self.directory,
            switch=self._switch,
            guest_uid_base=self._guest_uid_base,
            cache=cache_directory(),
            image_source=self.image_source,
            volumes=self.volumes,
            storage=self.storage,
            virt=self.virt,
            server_uid_base=self._server_uid_base,
            ceph=self.ceph.options() if self.ceph else f"secret_dir = {self.secrets}",
        )
        self.config_file.write_text(text)


def _processes() -> Iterator[int]:
    return (int(directory.name) for directory in Path("/proc").glob("[0-9]*"))


def _user(pid: int) -> int | None:
    """Whose it is; None: it has ended."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return None


def _environment(pid: int) -> list[bytes]:
    """That which its program was started with; empty for kernel threads, zombies and processes that have ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
