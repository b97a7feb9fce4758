"""A virtual host, as tests and the command know it."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

from compute_agent.errors import ComputeAgentError
from compute_agent.rpc.client import ComputeClient
from compute_agent.rpc.transport import connect
from laboratory import ssh
from laboratory.machine import Machine
from laboratory.provision import write_files
from laboratory.settings import GATEWAY, Site, host_address, host_name
from sandbox.commands import SandboxError, run
from sandbox.notify import ReadyPort, tail

_AGENT_PIDFILE = "/run/compute-agent.pid"
_AGENT_LOG = "/var/log/compute-agent.log"
_ANSWER_TIMEOUT = 60.0
_AGENT_START_TIMEOUT = 180
_AGENT_STOP_TIMEOUT = 30
_LOOK_AGAIN = 0.2


class VirtualHost:
    """One of a laboratory's; its state directory survives when its power is cut."""

    def __init__(self, site: Site, number: int) -> None:
        self.name = host_name(number)
        self.address = host_address(number)
        """On the hosts' network."""
        self._site = site
        self._number = number
        self._machine = Machine(site, number)

    @property
    def console_log(self) -> Path:
        """All that its console ever said."""
        return self._machine.console_log

    @cached_property
    def client(self) -> ComputeClient:
        """A controller's view of its agent."""
        return ComputeClient(connect(self._site.transport_url), self.name, _ANSWER_TIMEOUT)

    def start(self) -> None:
        """Return when all is up but the agent.

        :raises SandboxError: it is off again; with the end of its console.
        """
        with ReadyPort(GATEWAY) as ready:
            write_files(self._site, self._number, ready.port)
            self._machine.start(ready)

    def kill(self) -> None:
        """Cut its power. Nothing happens where it is off."""
        ssh.disconnect(self._site.directory, self.name)
        self._machine.kill()

    def run(self, *command: str, seconds: float = 60.0, stdin: str | None = None) -> str:
        """What a command printed in the host.

        :raises SandboxError: it failed or took longer than `seconds`; with its exit status and all that it wrote, or
            with the end of the host's console where the host itself is lost.
        """
        try:
            return run(*ssh.command_line(self._site.directory, self.name, command), seconds=seconds, stdin=stdin)
        except SandboxError as error:
            if f"exit status {ssh.FAILED}" not in str(error):
                raise
            raise SandboxError(f"{error}\n{self.name} is {self._machine.state}\n{tail(self.console_log)}") from error

    def reaches(self, address: str) -> bool:
        """A ping there and back."""
        return " 0% packet loss" in self.run("sh", "-c", f"ping -c 1 -W 1 {address} || true")

    def start_agent(self) -> None:
        """Return when the agent serves, also over the queue: here it may say so before it has reached the broker.

        :raises SandboxError: it does not; with the end of its log.
        """
        try:
            self.run(
                *("start-stop-daemon", "--start", "--background", "--make-pidfile", "--pidfile", _AGENT_PIDFILE),
                *("--notify-await", "--notify-timeout", str(_AGENT_START_TIMEOUT), "--output", _AGENT_LOG),
                *("--startas", "/usr/bin/env", "--", "compute-agent"),
                seconds=_AGENT_START_TIMEOUT + 10,
            )
            self._await_answer(time.monotonic() + _AGENT_START_TIMEOUT)
        except SandboxError as error:
            raise SandboxError(f"{error}\n{self.agent_log()}") from error

    def _await_answer(self, deadline: float) -> None:
        while True:
            try:
                self.client.list_operations(limit=1)
            except ComputeAgentError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"the agent on {self.name} does not answer: {error}") from error
                time.sleep(_LOOK_AGAIN)
            else:
                return

    def stop_agent(self) -> None:
        """Ask the agent to end, and wait until it has.

        :raises SandboxError: it does not run, or does not end.
        """
        self._end_agent(f"TERM/{_AGENT_STOP_TIMEOUT}")

    def kill_agent(self) -> None:
        """SIGKILL the agent, and wait until it is gone.

        :raises SandboxError: it does not run.
        """
        self._end_agent(f"KILL/{_AGENT_STOP_TIMEOUT}")

    def agent_log(self) -> str:
        """The end of it."""
        return self.run("tail", "-n", "30", _AGENT_LOG)

    def _end_agent(self, schedule: str) -> None:
        self.run(
            *("start-stop-daemon", "--stop", "--pidfile", _AGENT_PIDFILE, "--remove-pidfile", "--retry", schedule),
            seconds=_AGENT_STOP_TIMEOUT + 10,
        )
