"""What all commands share that change something: a request id, and waiting for the end."""

from __future__ import annotations

import argparse
import uuid
from abc import abstractmethod
from collections.abc import Iterable, Sequence

from cliff.show import ShowOne

from compute_agent import errors
from compute_agent.cli.arguments import uuid_text
from compute_agent.cli.commands.base import ComputeCommand, InstanceCommand
from compute_agent.cli.failure import Circumstances, ExitStatus, Failure, advice_about
from compute_agent.cli.progress import progress_display
from compute_agent.cli.views import accepted_fields, outcome_fields
from compute_agent.cli.waiting import wait_for_end
from compute_agent.instance.view import Accepted, Fault, OperationState, OperationView


class ChangeCommand(ComputeCommand, ShowOne):
    """Sends one request; shows that it was accepted, or with --wait what became of it."""

    _failure: Failure | None = None

    @abstractmethod
    def submit(self, parsed_args: argparse.Namespace) -> Accepted:
        """Send the request."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --wait and --request-id."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--wait", action="store_true", help="show progress, return when it is done or has failed")
        parser.add_argument(
            "--request-id",
            metavar="UUID",
            type=uuid_text,
            default=str(uuid.uuid4()),
            help="repeat an earlier request safely: what was accepted under this id is not started again",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """As every command; and Ctrl-C leaves behind how to look for what was sent."""
        try:
            return super().run(parsed_args)
        except KeyboardInterrupt:
            if not self.sent_request_id:
                raise
            failure = Failure(
                "interrupted; the request may still have been taken",
                f"computectl operation show {self.sent_request_id}",
                ExitStatus.INTERRUPTED,
            )
            return self.app.report(failure)

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Send the request and, if asked to, wait."""
        accepted = self.submit(parsed_args)
        if not parsed_args.wait:
            return self.dict2columns(accepted_fields(accepted))
        view = self._wait(accepted)
        if view.state is OperationState.FAILED:
            self._failure = self._explain(view)
        return self.dict2columns(outcome_fields(view))

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[object]
    ) -> int:
        """Show what became of the request, then the failure, if it failed."""
        super().produce_output(parsed_args, column_names, data)
        if self._failure is not None:
            raise self._failure
        return 0

    def _wait(self, accepted: Accepted) -> OperationView:
        display = progress_display(self.app.stderr, quiet=self.app.quiet)
        try:
            with display:
                return wait_for_end(self.client, accepted.request_id, display)
        except KeyboardInterrupt:
            raise _unfinished(accepted, "not waiting any more", ExitStatus.INTERRUPTED) from None
        except (errors.DeadlineExceeded, errors.HostError) as silence:
            raise _unfinished(accepted, str(silence), ExitStatus.UNKNOWN) from None

    def _explain(self, view: OperationView) -> Failure:
        fault = view.fault or Fault(type="ComputeAgentError", message="no reason was given")
        kind = getattr(errors, fault.type, errors.ComputeAgentError)
        circumstances = Circumstances(
            host=self.app.host,
            broker=self.app.connection.named_in,
            instance=view.instance_uuid,
            request_id=view.request_id,
        )
        advice = advice_about(kind, circumstances)
        if view.operation == "boot":
            advice += f"; then computectl terminate {view.instance_uuid}, and boot again"
        return Failure(f"{view.operation} of {view.instance_uuid} failed: {fault.type}: {fault.message}", advice)


class InstanceChangeCommand(InstanceCommand, ChangeCommand):
    """A change of one instance."""

    def submit(self, parsed_args: argparse.Namespace) -> Accepted:
        """Find the instance and send the request."""
        instance_uuid = self.instance_uuid(parsed_args)
        self.sent_request_id = parsed_args.request_id
        return self.request(instance_uuid, parsed_args)

    @abstractmethod
    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send the request about that instance."""


def _unfinished(accepted: Accepted, reason: str, status: ExitStatus) -> Failure:
    return Failure(
        f"{reason}; {accepted.operation} of {accepted.instance_uuid} was accepted and goes on",
        f"computectl operation show {accepted.request_id}",
        status,
    )
