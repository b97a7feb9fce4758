"""interface attach, detach: ports of an instance that is there already."""

from __future__ import annotations

import argparse

from compute_agent.cli.arguments import port, uuid_text
from compute_agent.cli.commands.change import InstanceChangeCommand
from compute_agent.cli.order import port_from_arguments
from compute_agent.instance.view import Accepted


class InterfaceAttach(InstanceChangeCommand):
    """Give an instance one more port, also while it runs."""

    examples = (
        "  computectl interface attach web1 --wait    # on br-int, with a new id and a new MAC address\n"
        "  computectl interface attach web1 bridge=br-int,vlan=7,mtu=1450,mac=fa:16:3e:00:00:07 --wait"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the port."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "port",
            metavar="KEY=VALUE,...",
            type=port,
            nargs="?",
            default="",
            help="keys: id, mac (default: new ones), bridge (default: br-int), vlan, mtu, and for the record ip "
            "(such as 10.0.0.5/24), gateway, dns",
        )
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        ordered = port_from_arguments(parsed_args.port, parsed_args.request_id)
        return self.client.attach_interface(instance_uuid, ordered, request_id=parsed_args.request_id)


class InterfaceDetach(InstanceChangeCommand):
    """Take a port away from an instance."""

    examples = "  computectl interface detach web1 6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4 --wait"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With the port."""
        parser = super().get_parser(prog_name)
        parser.add_argument("port_id", metavar="PORT", type=uuid_text, help="its id, as `computectl show` has it")
        return parser

    def request(self, instance_uuid: str, parsed_args: argparse.Namespace) -> Accepted:
        """Send it."""
        return self.client.detach_interface(instance_uuid, parsed_args.port_id, request_id=parsed_args.request_id)
