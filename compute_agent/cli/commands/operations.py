"""operation list, operation show."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from cliff.show import ShowOne

from compute_agent.cli.arguments import positive, uuid_text
from compute_agent.cli.commands.base import ComputeCommand, ListCommand
from compute_agent.cli.views import OPERATION_COLUMNS, operation_fields, operation_row


class OperationList(ListCommand):
    """List what a host was asked to do, newest first."""

    examples = "  computectl operation list\n  computectl operation list --instance web1 --limit 5"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --instance and --limit."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--instance", metavar="INSTANCE", help="only its; one that is gone by its uuid")
        parser.add_argument("--limit", metavar="N", type=positive, default=20, help="at most so many (default: 20)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        instance_uuid = self.instance_uuid(parsed_args) if parsed_args.instance else None
        views = self.client.list_operations(instance_uuid, limit=parsed_args.limit)
        return OPERATION_COLUMNS, [operation_row(view) for view in views]


class OperationShow(ComputeCommand, ShowOne):
    """Show one operation, its steps and why it failed."""

    synopsis = "REQUEST_ID"
    examples = "  computectl operation show 0c9d2f3a-52e5-4b0c-9ad1-3f1f0f2b7c11"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the argument REQUEST_ID."""
        parser = super().get_parser(prog_name)
        parser.add_argument("operation", metavar="REQUEST_ID", type=uuid_text, help="as the request's answer told it")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return self.dict2columns(operation_fields(self.client.get_operation(parsed_args.operation)))
