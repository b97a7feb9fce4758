"""What all commands of computectl share: help with examples, errors that say what to do next, the connection."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cliff.command import Command
from cliff.lister import Lister

from compute_agent.cli.failure import Circumstances, Failure, explain
from compute_agent.cli.lookup import find_instance_uuid
from compute_agent.errors import ComputeAgentError

if TYPE_CHECKING:
    from compute_agent.cli.computectl import Computectl
    from compute_agent.rpc.client import ComputeClient


class ComputeCommand(Command):
    """Mixed into cliff's commands, before them."""

    app: Computectl
    synopsis = ""
    """What follows the command's name in its usage."""
    examples = ""
    """Lines of a shell."""
    sent_request_id = ""
    """Set when a change is about to be requested: from then on it may have happened."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """A parser whose usage and help are short."""
        parser = super().get_parser(prog_name)
        parser.usage = f"{prog_name} {self.synopsis}".rstrip() + " [option ...]"
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def get_epilog(self) -> str:
        """The examples; cliff's own looks through all installed distributions, which takes 0.1 s."""
        return f"examples:\n{self.examples}" if self.examples else ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Do it, and report what goes wrong; the exit status."""
        try:
            return super().run(parsed_args)
        except Failure as failure:
            return self.app.report(failure)
        except ComputeAgentError as error:
            return self.app.report(explain(error, self._circumstances(parsed_args)))

    @property
    def client(self) -> ComputeClient:
        """Connects when it is first used."""
        return self.app.client

    def instance_uuid(self, parsed_args: argparse.Namespace) -> str:
        """The uuid of the argument INSTANCE."""
        return find_instance_uuid(self.client, parsed_args.instance, self.app.host)

    def _circumstances(self, parsed_args: argparse.Namespace) -> Circumstances:
        return Circumstances(
            host=self.app.host,
            broker=self.app.connection.named_in,
            instance=getattr(parsed_args, "instance", None) or "INSTANCE",
            request_id=self.sent_request_id,
        )


class ListCommand(ComputeCommand, Lister):
    """A command that lists."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """An empty list is a table without rows, not an empty line."""
        parser = super().get_parser(prog_name)
        parser.set_defaults(print_empty=True)
        return parser


class InstanceCommand(ComputeCommand):
    """A command about one instance."""

    synopsis = "INSTANCE"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the argument INSTANCE."""
        parser = super().get_parser(prog_name)
        parser.add_argument("instance", metavar="INSTANCE", help="its uuid, the start of its uuid, or its name")
        return parser
