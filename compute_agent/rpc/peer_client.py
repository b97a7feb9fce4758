"""What one agent asks another one with."""

from __future__ import annotations

from typing import TypeVar

from compute_agent.errors import HostError, JournalError
from compute_agent.rpc.client import ComputeClient

T = TypeVar("T")


class PeerClient(ComputeClient):
    """Tells the other host's journal from this one's: here nothing has to wait for it."""

    def _ask(self, answer: type[T], verb: str, **arguments: object) -> T:
        try:
            return super()._ask(answer, verb, **arguments)
        except JournalError as error:
            raise HostError(f"host {self.host}", str(error)) from None
