"""migrate, migration abort, migration force-complete."""

from __future__ import annotations

import argparse

from compute_agent.cli.commands.base import InstanceCommand
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.instance.view import Accepted


class Migrate(InstanceChangeCommand):
    """Move a guest to another host: while it runs, or with --cold while it does not."""

    synopsis = "INSTANCE HOST"
    examples = (
        "  computectl migrate web1 node2 --wait\n"
        "  computectl migrate web1 node2 --cold --wait\n"
        "  computectl migrate web1 node2 --cold --stop --wait"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the host."""
        parser = super().get_parser(prog_name)
        parser.add_argument("dest", metavar="HOST", help="the host to move to")
        parser.add_argument("--cold", action="store_true", help="it is stopped, or gets stopped with --stop")
        parser.add_argument("--stop", action="store_true", help="shut it down for that, and start it there")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        dest, request_id = parsed_args.dest, parsed_args.request_id
        if parsed_args.cold:
            return self.client.migrate_instance(instance_uuid, dest, request_id=request_id, stop=parsed_args.stop)
        if parsed_args.stop:
            raise Failure("--stop: is for --cold only", "add --cold, or leave it out", ExitStatus.USAGE)
        return self.client.live_migration(instance_uuid, dest, request_id=request_id)


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
