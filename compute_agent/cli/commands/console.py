"""console: read a guest's serial console, or talk to it."""

from __future__ import annotations

import argparse
import errno
import os
import time
from pathlib import Path

from compute_agent.cli.arguments import positive
from compute_agent.cli.commands.base import InstanceCommand
from compute_agent.cli.failure import Failure
from compute_agent.cli.terminal import connect_console, converse, harmless
from compute_agent.errors import DeadlineExceeded

FOLLOW_INTERVAL = 1.0
"""Seconds between two looks at a console that is followed."""


class Console(InstanceCommand):
    """Print what the guest wrote to its serial console, or talk to it."""

    examples = (
        "  computectl console web1 --length 2000       # on a terminal without escape sequences other than colours\n"
        "  computectl console web1 --follow            # Ctrl-C ends it\n"
        "  computectl console web1 --interactive       # on the instance's own host; Ctrl-] ends it"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the three ways to look."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--length", metavar="BYTES", type=positive, default=64 * 1024, help="the last BYTES of it (default: 65536)"
        )
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--follow", action="store_true", help="go on with what comes")
        way.add_argument("--interactive", action="store_true", help="talk to it; Ctrl-] ends it")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Look, or talk."""
        instance_uuid = self.instance_uuid(parsed_args)
        if parsed_args.interactive:
            self._talk(instance_uuid)
        elif parsed_args.follow:
            self._follow(instance_uuid, parsed_args.length)
        else:
            self._write(self.client.get_console_output(instance_uuid, length=parsed_args.length))

    def _follow(self, instance_uuid: str, length: int) -> None:
        seen = self.client.get_console_output(instance_uuid)
        self._write(seen[-length:])
        while True:
            time.sleep(FOLLOW_INTERVAL)
            try:
                output = self.client.get_console_output(instance_uuid)
            except DeadlineExceeded:  # an agent that is restarted is back soon
                continue
            self._write(new_output(seen, output))
            seen = output

    def _write(self, text: str) -> None:
        self.app.stdout.write(harmless(text) if self.app.stdout.isatty() else text)
        self.app.stdout.flush()

    def _talk(self, instance_uuid: str) -> None:
        if not (self.app.stdin.isatty() and self.app.stdout.isatty()):
            raise Failure("--interactive needs a terminal", f"computectl console {instance_uuid} --follow")
        where = self.client.get_serial_console(instance_uuid)
        host, path = str(where["host"]), Path(str(where["path"]))
        try:
            console = connect_console(path)
        except OSError as error:
            raise _unreachable(error, instance_uuid, host, path) from None
        with console:
            self._write(f"Connected to {instance_uuid}. Ctrl-] ends it.\n")
            by_person = converse(console, self.app.stdin.fileno(), self.app.stdout.fileno())
        self._write("\nDisconnected.\n" if by_person else "\nThe guest's console is closed: it has stopped.\n")


def new_output(seen: str, output: str) -> str:
    """What `output` has after `seen`; each is the end of the same log, at two moments."""
    output = output.lstrip("\ufffd")  # a character that was cut in two
    start = seen.find(output[:1])
    while start >= 0:
        if output.startswith(seen[start:]):
            return output[len(seen) - start :]
        start = seen.find(output[:1], start + 1)
    return output


def _unreachable(error: OSError, instance_uuid: str, host: str, path: Path) -> Failure:
    if error.errno == errno.EACCES:
        return Failure(f"{path}: {error.strerror}", f"as root: computectl console {instance_uuid} --interactive")
    if error.errno == errno.ENOENT:
        return Failure(
            f"the interactive console works on the instance's own host: {host}, and this is {os.uname().nodename}",
            f"ssh -t {host} computectl console {instance_uuid} --interactive",
        )
    return Failure(f"console {path} on {host}: {error.strerror or error}", f"computectl show {instance_uuid}")
