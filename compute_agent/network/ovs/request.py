"""An errand on its way: who waits for it, until when, and how far it has come."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ovs.stream import Stream

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, NetworkError
from compute_agent.network.ovs.errand import PENDING, Errand
from compute_agent.network.ovs.switch import Switch


@dataclass(slots=True, eq=False)
class Request:
    """Touched by the thread that follows the database only, all but `future`."""

    errand: Errand[Any]
    deadline: float
    """On the monotonic clock."""
    asked_at: float = field(default_factory=time.monotonic)
    future: Future[Any] = field(default_factory=Future)
    was_sent: bool = False
    """It may be in the database, whether or not the server has said so."""
    configuration: int | None = None
    """The number that it was committed under."""
    alone: bool = False
    """It was in a transaction that the server refused: to be sent by itself, so that only the culprit fails."""

    @property
    def is_answered(self) -> bool:
        """Nobody waits for it any more."""
        return self.future.done()

    def fail(self, error: ComputeAgentError) -> None:
        """Answer with an error; nothing happens to one that was given up, and is still under way."""
        if not self.is_answered:
            self.future.set_exception(error)

    def write(self, switch: Switch) -> bool:
        """Add what it needs to the transaction under way; whether there was anything to add, and it must wait."""
        try:
            wrote = self.errand.write(switch)
        except NetworkError as error:
            self.fail(error)
            return False
        if not wrote:
            self.configuration = switch.wanted
        return wrote

    def settle(self, switch: Switch) -> None:
        """Answer if it was committed and has come true, or never will."""
        if self.configuration is None:
            return
        try:
            outcome = self.errand.outcome(switch, self.configuration)
        except NetworkError as error:
            self.fail(error)
        else:
            if outcome is not PENDING:
                self.future.set_result(outcome)

    def give_up(self, switch: Switch, connection: str) -> None:
        """Answer with what is known."""
        if self.configuration is not None and switch.in_step:
            at = f"it is at configuration {switch.applied}, and should be at {self.configuration}"
            self.fail(NetworkError(f"ovs-vswitchd does not answer: {at}"))
        elif self.was_sent:
            self.fail(DeadlineExceeded(f"the switch's database at {connection} did not answer in time"))
        else:
            self.fail(NetworkError(f"cannot reach the switch's database at {connection}: {_reason(connection)}"))


def _reason(connection: str) -> str:
    """What one more attempt to connect says; does not block."""
    error, stream = Stream.open(connection)
    if stream is not None:
        stream.close()
    return os.strerror(error) if error else "it does not answer"
