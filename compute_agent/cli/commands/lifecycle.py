"""start, stop, reboot, pause, unpause, suspend, resume, terminate."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from compute_agent.cli.arguments import seconds
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.cli.failure import Failure
from compute_agent.instance.view import Accepted


class PlainChangeCommand(InstanceChangeCommand):
    """A change that needs to be told nothing but the instance."""

    verb: str
    """The method of the client."""

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        send: Callable[..., Accepted] = getattr(self.client, self.verb)
        return send(instance_uuid, request_id=parsed_args.request_id)


class Start(PlainChangeCommand):
    """Start a stopped instance."""

    verb = "start_instance"
    examples = "  computectl start web1 --wait"


class Stop(InstanceChangeCommand):
    """Ask the guest's system to shut down, and force it off when its time is up."""

    examples = (
        "  computectl stop web1 --wait\n  computectl stop web1 --timeout 0    # at once, as if the plug were pulled"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --timeout."""
        parser = super().get_parser(prog_name)
        _add_shutdown_timeout(parser)
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.stop_instance(instance_uuid, request_id=parsed_args.request_id, timeout=parsed_args.timeout)


class Reboot(InstanceChangeCommand):
    """Restart the guest's system, or its whole machine."""

    examples = (
        "  computectl reboot web1 --wait\n"
        "  computectl reboot web1 --hard    # a new process; also starts a stopped instance"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --hard and --timeout."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--hard", action="store_true", help="do not ask the guest: end its process, make a new one")
        _add_shutdown_timeout(parser)
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.reboot_instance(
            instance_uuid,
            request_id=parsed_args.request_id,
            reboot_type="HARD" if parsed_args.hard else "SOFT",
            timeout=parsed_args.timeout,
        )


class Pause(PlainChangeCommand):
    """Stop the guest's CPUs; its memory stays."""

    verb = "pause_instance"
    examples = "  computectl pause web1"


class Unpause(PlainChangeCommand):
    """Let a paused guest's CPUs run."""

    verb = "unpause_instance"
    examples = "  computectl unpause web1"


class Suspend(PlainChangeCommand):
    """Save the guest's memory to disk and free it."""

    verb = "suspend_instance"
    examples = "  computectl suspend web1 --wait"


class Resume(PlainChangeCommand):
    """Let a suspended guest go on where it left off."""

    verb = "resume_instance"
    examples = "  computectl resume web1 --wait"


class Terminate(InstanceChangeCommand):
    """Stop an instance at once and remove all that belongs to it, its disks too."""

    examples = "  computectl terminate web1    # asks first, on a terminal\n  computectl terminate web1 --yes --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --yes."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--yes", action="store_true", help="do not ask")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Ask the person, if there is one, and send it."""
        if not parsed_args.yes and self.app.stdin.isatty():
            self._ask(f"Terminate {parsed_args.instance} ({instance_uuid}) and delete its disks? [y/N] ")
        return self.client.terminate_instance(instance_uuid, request_id=parsed_args.request_id)

    def _ask(self, question: str) -> None:
        self.app.stderr.write(question)
        self.app.stderr.flush()
        if self.app.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("not terminated", "answer y, or add --yes")


def _add_shutdown_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="how long the guest may take to shut down (default: shutdown_timeout of the agent)",
    )
