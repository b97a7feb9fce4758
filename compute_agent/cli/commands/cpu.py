"""cpu baseline."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from cliff.show import ShowOne

from compute_agent.cli.baseline import NoBaseline, find_baseline
from compute_agent.cli.columns import Nested
from compute_agent.cli.commands.base import ComputeCommand
from compute_agent.cli.failure import Failure


class CpuBaseline(ComputeCommand, ShowOne):
    """Find the CPU that guests can have on each of several hosts, so that they can move between them.

    `cpu_model` is what belongs into section [virt] of each host's configuration. Guests that run keep what they have.
    """

    synopsis = "HOST ..."
    examples = (
        "  computectl cpu baseline node1 node2 node3\n  computectl cpu baseline node1 node2 -f value -c cpu_model"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the hosts."""
        parser = super().get_parser(prog_name)
        parser.add_argument("hosts", metavar="HOST", nargs="+", help="the hosts that guests are to move between")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask all hosts."""
        cpus = {host: self.app.client_of(host).get_cpu() for host in parsed_args.hosts}
        try:
            found = find_baseline(cpus)
        except NoBaseline as error:
            raise Failure(str(error), "leave hosts out; computectl --host HOST host show") from None
        return self.dict2columns(
            {
                "cpu_model": found.cpu_model,
                "model": found.model,
                "features": Nested(found.features),
                **{f"unused_{host}": Nested(features) for host, features in found.unused.items()},
            }
        )
