"""Where the guests of a host can go: the hosts that a person names, the emptiest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compute_agent.errors import ComputeAgentError

if TYPE_CHECKING:
    from compute_agent.rpc.client import ComputeClient


class Destinations:
    """How much memory is left on each is asked once; what is sent there since is counted."""

    def __init__(self, clients: Sequence[ComputeClient]) -> None:
        self.unusable: dict[str, str] = {}
        """Hosts that take no guest, and why."""
        self._free: dict[str, int] = {}
        for client in clients:
            self._ask(client)

    def _ask(self, client: ComputeClient) -> None:
        try:
            host = client.get_host()
        except ComputeAgentError as error:
            self.unusable[client.host] = str(error)
            return
        if host["maintenance_since"] is not None:
            self.unusable[client.host] = "it is in maintenance"
        else:
            self._free[client.host] = host["memory_mb"] - host["memory_mb_used"]

    def with_room(self, memory_mb: int) -> list[str]:
        """The hosts that have so much memory left, the one with the most first."""
        return sorted(
            (host for host, free in self._free.items() if free >= memory_mb), key=lambda one: -self._free[one]
        )

    def take(self, host: str, memory_mb: int) -> None:
        """A guest is sent there; negative: it did not get there."""
        self._free[host] -= memory_mb

    def describe(self) -> str:
        """For a person: what each has left, or why it takes none."""
        free = [f"{host} has {left} MiB left" for host, left in self._free.items()]
        return "; ".join([*free, *(f"{host}: {reason}" for host, reason in self.unusable.items())])
