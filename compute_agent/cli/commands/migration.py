"""migrate, migration abort, migration force-complete."""

from __future__ import annotations

import argparse

from compute_agent.cli.commands.base import InstanceCommand
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.instance.view import Accepted


class Migrate(InstanceChangeCommand):
    """Move a running guest to another host."""

    synopsis = "INSTANCE HOST"
    examples = "  computectl migrate web1 node2 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the host."""
        parser = super().get_parser(prog_name)
        parser.add_argument("dest", metavar="HOST", help="the host to move to")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.live_migration(instance_uuid, parsed_args.dest, request_id=parsed_args.request_id)


class MigrationAbort(InstanceCommand):
    """Have a guest that moves stay where it is."""

    examples = "  computectl migration abort web1"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send it."""
        self.client.live_migration_abort(self.instance_uuid(parsed_args))


class MigrationForceComplete(InstanceCommand):
    """Pause a guest that moves until it is there, however fast it writes to its memory."""

    examples = "  computectl migration force-complete web1"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Send it."""
        self.client.live_migration_force_complete(self.instance_uuid(parsed_args))
