"""drain."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from compute_agent.cli.arguments import positive
from compute_agent.cli.columns import Perhaps
from compute_agent.cli.commands.base import ListCommand
from compute_agent.cli.destinations import Destinations
from compute_agent.cli.drain import Drain, Fate
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.cli.progress_of_many import display_of_many

_AGAIN = "computectl drain again goes on where this ended; computectl operation list"


class HostDrain(ListCommand):
    """Have a host take no guests any more, and move those that it has to other hosts.

    Cut short, it goes on where it was when it is called again. The host stays in maintenance until --undo.
    """

    synopsis = "[--to HOST ...] [--limit N] | --undo"
    examples = "  computectl --host node1 drain --to node2 --to node3 --limit 4\n  computectl --host node1 drain --undo"
    _staying: Sequence[Fate] = ()

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--to", metavar="HOST", action="append", default=[], help="a host that takes guests; may be repeated"
        )
        parser.add_argument(
            "--limit", metavar="N", type=positive, default=2, help="how many are moved at once (default: 2)"
        )
        parser.add_argument("--undo", action="store_true", help="let it take guests again; those that left stay away")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """Put the host into maintenance, or out of it; then move its guests."""
        self._check(parsed_args)
        self.client.host_maintenance_mode(not parsed_args.undo)
        fates = [] if parsed_args.undo else self._drain(parsed_args)
        self._staying = [fate for fate in fates if fate.reason is not None]
        return ("uuid", "name", "moved_to", "reason"), [
            (fate.uuid, fate.name, Perhaps(fate.moved_to), Perhaps(fate.reason)) for fate in fates
        ]

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Sequence[Any]]
    ) -> int:
        """Show what became of the guests, then which are still there."""
        super().produce_output(parsed_args, column_names, data)
        if self._staying:
            names = ", ".join(fate.name for fate in self._staying)
            raise Failure(f"still on {self.app.host}: {names}", f"see to the reasons above; {_AGAIN}")
        return 0

    def _check(self, parsed_args: argparse.Namespace) -> None:
        if self.app.host in parsed_args.to:
            raise Failure(f"--to {self.app.host}: that is the host itself", "name others", ExitStatus.USAGE)
        if parsed_args.undo and parsed_args.to:
            raise Failure("--undo: moves no guests, so that --to means nothing", "leave one out", ExitStatus.USAGE)

    def _drain(self, parsed_args: argparse.Namespace) -> list[Fate]:
        destinations = Destinations([self.app.client_of(host) for host in parsed_args.to])
        try:
            with display_of_many(self.app.stderr, quiet=self.app.quiet) as display:
                return Drain(self.client, destinations, parsed_args.limit, display).run()
        except KeyboardInterrupt:
            raise Failure("not waiting any more; what was begun goes on", _AGAIN, ExitStatus.INTERRUPTED) from None
