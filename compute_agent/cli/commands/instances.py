"""list, show, record, diagnostics."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import msgspec
from cliff.show import ShowOne

from compute_agent.cli.columns import present
from compute_agent.cli.commands.base import InstanceCommand, ListCommand
from compute_agent.cli.views import INSTANCE_COLUMNS, instance_fields, instance_row


class List(ListCommand):
    """List the instances of a host."""

    examples = (
        "  computectl list\n"
        "  computectl --host node2 list --sort-column name\n"
        "  computectl list -f value -c uuid -c vm_state"
    )

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return INSTANCE_COLUMNS, [instance_row(view) for view in self.client.list_instances()]


class Show(InstanceCommand, ShowOne):
    """Show one instance."""

    examples = (
        "  computectl show web1\n  computectl show 6fb1 -f json\n  computectl show web1 -f value -c vm_state -c fault"
    )

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return self.dict2columns(instance_fields(self.client.get_instance(self.instance_uuid(parsed_args))))


class Record(InstanceCommand):
    """Print all that a host knows of an instance, as JSON: what `evacuate` needs when the host is dead.

    User data and keys are in it, which are the guest's own.
    """

    examples = "  computectl record web1 > web1.json"

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Ask the host."""
        view = self.client.get_instance(self.instance_uuid(parsed_args))
        self.app.stdout.write(msgspec.json.format(msgspec.json.encode(view)).decode() + "\n")


class Diagnostics(InstanceCommand, ShowOne):
    """Show the counters of a running instance."""

    examples = "  computectl diagnostics web1 -f yaml"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        counters = self.client.get_diagnostics(self.instance_uuid(parsed_args))
        return self.dict2columns({name: present(value) for name, value in counters.items()})
