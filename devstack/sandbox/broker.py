"""A private RabbitMQ: its own node name, ports and directories, on the loopback or another address of the sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from sandbox.commands import run
from sandbox.notify import ReadySocket, wait_for_end
from sandbox.service import Service

_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Not the one in /usr/sbin: that switches user, and takes any argument for a wish to start."""
_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0


class Broker(Service):
    """RabbitMQ in a directory; queues and messages outlive `kill` and `restart`. A context manager."""

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        self._directory = directory
        self._address = address
        self._port, self._epmd_port, self._distribution_port = _free_ports(3)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.log = directory / "rabbitmq.log"

    @property
    def transport_url(self) -> str:
        """For oslo.messaging."""
        return f"rabbit://guest:guest@{self._address}:{self._port}//"

    @property
    def port(self) -> int:
        """AMQP."""
        return self._port

    def start(self) -> None:
        """Return when it takes connections, about 5 s later.

        :raises SandboxError: with the end of its log; no process is left.
        """
        with ExitStack() as on_failure:
            on_failure.callback(self.kill)
            self._prepare()
            self._epmd = self._spawn("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
            with ReadySocket(self._directory / "notify") as ready:
                self._server = self._spawn(_SERVER, NOTIFY_SOCKET=str(ready.path))
                ready.wait(self._server, _START_TIMEOUT, self.log)
            on_failure.pop_all()

    def stop(self) -> None:
        """End it in good order. Nothing happens where it does not run."""
        if self._server is not None:
            self._server.terminate()
            wait_for_end(self._server, _STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a power cut would have it."""
        for process in (self._server, self._epmd):
            if process is not None:
                process.kill()
                process.wait()
        self._server = self._epmd = None

    def restart(self) -> None:
        """Stop and start on the same directory and port."""
        self.stop()
        self.start()

    def control(self, *words: str) -> str:
        """What ``rabbitmqctl`` says, some 2 s later.

        :raises SandboxError: it refused.
        """
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return run("env", "--ignore-environment", *environment, _CONTROL, "--quiet", *words)

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = {self._address}:{self._port}\n"
            "loopback_users = none\n"
            "log.file.level = warning\n"
            "log.console = false\n"
        )
        (self._directory / "enabled_plugins").write_text("[].\n")

    def _spawn(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self._directory / "output.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def environment(self) -> dict[str, str]:
        """What its own programs need, ``/usr/lib/rabbitmq/bin/rabbitmqctl`` too."""
        home = str(self._directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "sandbox@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": home,
            "RABBITMQ_LOGS": str(self.log),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self._directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in sockets]
