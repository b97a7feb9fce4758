"""reconcile."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from compute_agent.cli.columns import Perhaps
from compute_agent.cli.commands.base import ListCommand


class Reconcile(ListCommand):
    """Look for what nobody wants on a host, list it, and remove what was found the last time as well.

    The agent does so by itself now and then. What does not carry its mark is listed as foreign, and never touched.
    """

    examples = "  computectl reconcile --dry-run\n  computectl --host node2 reconcile -f json"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the option."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--dry-run", action="store_true", help="change nothing: DUE is what a look would remove")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Have the host look."""
        found = self.client.reconcile(dry_run=parsed_args.dry_run)
        return ("kind", "instance_uuid", "port_id", "what", "due"), [
            (one.kind, Perhaps(one.instance_uuid or None), Perhaps(one.port_id), Perhaps(one.what), one.due)
            for one in found
        ]
