"""host show."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from cliff.show import ShowOne

from compute_agent.cli.commands.base import ComputeCommand
from compute_agent.cli.views import host_fields


class HostShow(ComputeCommand, ShowOne):
    """Show what a host is, has and can do."""

    examples = "  computectl host show\n  computectl --host node2 host show -f json"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return self.dict2columns(host_fields(self.client.get_host()))
