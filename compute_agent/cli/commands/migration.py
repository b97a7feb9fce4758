"""migrate, migration abort, migration force-complete, evacuate."""

from __future__ import annotations

import argparse

from compute_agent.cli.arguments import positive, readable_file
from compute_agent.cli.commands.base import InstanceCommand
from compute_agent.cli.commands.change import ChangeCommand, InstanceChangeCommand
from compute_agent.cli.evacuation import evacuee_from_file
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.errors import DeadlineExceeded, HostError, InstanceExists, MigrationRefused
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


_EVACUATION = """\
  computectl record web1 --host node1 > web1.json    # while node1 lives; again when web1 has changed or moved
  computectl evacuate web1.json --dead node1 --host node2 --wait
  computectl start web1 --host node2 --wait

All its disks have to be in Ceph. node1 cannot write to them any more, whatever it does; it lets go of the instance
when it comes back. But what runs there keeps its addresses until then: switch node1 off, or cut it off."""


class Evacuate(ChangeCommand):
    """Have a host take an instance from another one that is dead; it is stopped there until it is started."""

    synopsis = "RECORD.json --dead HOST"
    examples = _EVACUATION

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the instance and its host."""
        parser = super().get_parser(prog_name)
        recorded = "what `computectl record` said of it last"
        parser.add_argument("record", metavar="RECORD.json", type=readable_file, help=recorded)
        parser.add_argument(
            "--dead",
            metavar="HOST",
            required=True,
            help="where it was: you have made sure that nothing runs there any more. Refused if its agent answers",
        )
        parser.add_argument(
            "--epoch",
            metavar="N",
            type=positive,
            help="from a controller that counts its moves; default: one above the record's",
        )
        return parser

    def submit(self, parsed_args: argparse.Namespace) -> Accepted:
        """Look whether that host answers, and send it."""
        evacuee = evacuee_from_file(parsed_args.record, parsed_args.dead, parsed_args.epoch)
        self._require_silence(evacuee.source)
        self.sent_request_id = parsed_args.request_id
        try:
            return self.client.evacuate_instance(evacuee, request_id=parsed_args.request_id)
        except InstanceExists as error:
            raise Failure(str(error), f"computectl show {evacuee.instance.uuid}") from None
        except MigrationRefused as error:
            raise Failure(str(error), "docs/operating.md (A node that is dead); nothing has changed") from None

    def _require_silence(self, host: str) -> None:
        try:
            self.app.client_of(host).get_host()
        except (DeadlineExceeded, HostError):
            return
        raise Failure(f"--dead {host}: its agent answers", f"migrate it from there, or switch {host} off")
