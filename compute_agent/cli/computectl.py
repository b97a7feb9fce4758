"""computectl: the operator's tool. It talks to the agent of one host, over the queue."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cliff.app import App
from cliff.command import Command
from cliff.commandmanager import CommandManager
from cliff.help import HelpExit

from compute_agent import __version__
from compute_agent.cli.arguments import seconds
from compute_agent.cli.commands import COMMANDS
from compute_agent.cli.connection import VARIABLE, Connection, connect
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.conf import DEFAULT_CONFIG_FILE

if TYPE_CHECKING:
    from compute_agent.rpc.client import ComputeClient

_CHATTY_LIBRARIES = ("oslo", "oslo_messaging", "oslo_service", "amqp", "kombu")
"""They log each attempt to reach the broker; what comes of it is reported anyway."""

_EPILOG = """\
Exit status: 0 done (with --wait) or accepted, 1 refused or failed, 2 unusable command line or configuration,
3 unknown: no answer in time.
Each command explains itself: computectl help COMMAND. Completion in bash: source <(computectl complete)
"""


class Computectl(App):
    """The program: options that all commands share, and the connection."""

    NAME = "computectl"

    def __init__(
        self,
        connect: Callable[[Connection], ComputeClient],
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        super().__init__(
            description="Operate the guests of a compute host through its compute-agent.",
            version=__version__,
            command_manager=CommandManager(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            deferred_help=True,
        )
        self._connect = connect
        self._clients: dict[str, ComputeClient] = {}
        for commands in COMMANDS.values():
            for name, command in commands.items():
                self.command_manager.add_command(name, command)

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, object] | None = None
    ) -> argparse.ArgumentParser:
        """The options may stand before and after the command; so they are never abbreviated."""
        keywords = {"allow_abbrev": False, "usage": "%(prog)s [option ...] COMMAND ...", "prog": self.NAME}
        parser = super().build_option_parser(description, version, keywords | (argparse_kwargs or {}))
        parser.add_argument(
            "--config-file",
            metavar="FILE",
            type=Path,
            help=f"where transport_url and host are read from (default: {DEFAULT_CONFIG_FILE})",
        )
        parser.add_argument(
            "--transport-url",
            metavar="URL",
            help=f"the broker, such as rabbit://user:password@host:5672/; other users can see options, but not "
            f"${VARIABLE} (default: that, then the configuration file)",
        )
        parser.add_argument("--host", help="the compute host (default: the one of the configuration file, or this one)")
        parser.add_argument(
            "--rpc-timeout",
            metavar="SECONDS",
            type=seconds,
            default=10.0,
            help="how long the agent may take to answer (default: 10)",
        )
        return parser

    def configure_logging(self) -> None:
        """As cliff does it, but without the libraries' chatter unless -v is given."""
        super().configure_logging()
        if self.options.verbose_level <= self.DEFAULT_VERBOSE_LEVEL and not self.options.debug:
            for name in _CHATTY_LIBRARIES:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def print_help_if_requested(self) -> None:
        """For ``--help`` without a command."""
        if self.options.deferred_help:
            self.print_overview()
            raise HelpExit

    def interact(self) -> None:
        """There is no shell of our own: a command is missing."""
        self.print_overview()
        raise SystemExit(ExitStatus.USAGE)

    def print_overview(self) -> None:
        """All options and all commands."""
        self.parser.print_help(self.stdout)
        for heading, commands in COMMANDS.items():
            self.stdout.write(f"\n{heading}:\n")
            for name, command in commands.items():
                self.stdout.write(f"  {name:<15}  {_first_line(command)}\n")
        self.stdout.write("\n" + _EPILOG)

    def report(self, failure: Failure) -> int:
        """Say what went wrong and what to do next; the exit status."""
        if self.options.debug:
            self.LOG.exception("%s", failure)
        advice = failure.advice.replace("computectl ", self._invocation)
        self.stderr.write(f"computectl: {failure.message}\nNext: {advice}\n")
        return failure.status

    @property
    def _invocation(self) -> str:
        """computectl with the options that an advised command needs too; not the URL, which may hold a password."""
        options = [("--config-file", self.options.config_file), ("--host", self.options.host)]
        given = [f"{name} {shlex.quote(str(value))}" for name, value in options if value]
        return " ".join(["computectl", *given, ""])

    @property
    def quiet(self) -> bool:
        """Nothing but answers and errors is wanted."""
        return bool(self.options.verbose_level == 0)

    @cached_property
    def connection(self) -> Connection:
        """Which broker and host the options and the configuration file mean."""
        return Connection.from_options(self.options)

    @property
    def host(self) -> str:
        """The compute host that is asked."""
        return self.connection.host

    @property
    def client(self) -> ComputeClient:
        """Connects when it is first used."""
        return self.client_of(self.host)

    def client_of(self, host: str) -> ComputeClient:
        """That of another host, with the same broker."""
        if host not in self._clients:
            self._clients[host] = self._connect(replace(self.connection, host=host))
        return self._clients[host]

    def clean_up(self, cmd: Command, result: int, err: BaseException | None) -> None:
        """Close the connections, if there are any."""
        for client in self._clients.values():
            client.close()


def _first_line(command: type[Command]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run computectl with these arguments; the exit status."""
    return Computectl(connect).run(list(sys.argv[1:] if argv is None else argv))
