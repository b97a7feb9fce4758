"""boot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from compute_agent.cli.arguments import key_value, memory_mb, port, positive, readable_file, uuid_text
from compute_agent.cli.commands.change import ChangeCommand
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.cli.order import instance_from_arguments, instance_from_file
from compute_agent.instance.model import Instance
from compute_agent.instance.view import Accepted
from compute_agent.instance.wire import Backend

_EXAMPLES = """\
  computectl boot web1 --vcpus 2 --memory 2G --image /var/lib/compute-agent/sources/debian-12.qcow2 \\
      --disk-size 10 --port bridge=br-int,ip=10.0.0.5/24,gateway=10.0.0.1 --ssh-key ~/.ssh/id_ed25519.pub --wait
  computectl boot db1 --vcpus 1 --memory 512 --image http://images.example/debian-12.qcow2 \\
      --image-checksum sha256:9f86d081... --blank 20 --port bridge=br-int,vlan=7 --user-data cloud-config.yaml
  computectl boot tiny --vcpus 1 --memory 64M --kernel vmlinuz --ramdisk initrd --append console=ttyS0 --no-config-drive
  computectl boot --file instance.json --wait

Files named by a path must be at that path on the instance's host, where its agent may read them (image_sources)."""


class Boot(ChangeCommand):
    """Create an instance and start it."""

    synopsis = "(NAME --vcpus N --memory SIZE (--image PATH|URL | --kernel PATH) | --file INSTANCE.json)"
    examples = _EXAMPLES

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With what makes up an instance."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--file", metavar="INSTANCE.json", type=readable_file, help="the whole instance, as in RPC")
        instance = parser.add_argument_group("instance")
        self._instance_options = (
            instance.add_argument("name", metavar="NAME", nargs="?"),
            instance.add_argument("--uuid", type=uuid_text, help="default: a new one"),
            instance.add_argument("--vcpus", metavar="N", type=positive),
            instance.add_argument("--memory", metavar="SIZE", type=memory_mb, help="MiB, or with a unit: 512M, 2G"),
            *_add_disk_options(parser),
            *_add_guest_options(parser),
        )
        return parser

    def submit(self, parsed_args: argparse.Namespace) -> Accepted:
        """Put the instance together and send it."""
        instance = self._instance(parsed_args)
        self.sent_request_id = parsed_args.request_id
        return self.client.build_and_run_instance(instance, request_id=parsed_args.request_id)

    def _instance(self, parsed_args: argparse.Namespace) -> Instance:
        given = [option for option in self._instance_options if getattr(parsed_args, option.dest) != option.default]
        if parsed_args.file is not None:
            if given:
                raise _usage_error(f"--file says all about the instance: {_name(given[0])} cannot be added")
            return instance_from_file(parsed_args.file, parsed_args.request_id)
        for option in self._instance_options:
            if option.dest in ("name", "vcpus", "memory") and option not in given:
                raise _usage_error(f"{_name(option)} is missing")
        if parsed_args.image is None and parsed_args.kernel is None:
            raise _usage_error("there is nothing to boot from: --image or --kernel is missing")
        return instance_from_arguments(parsed_args)


def _add_disk_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    disks = parser.add_argument_group("disks and what to boot")
    return [
        disks.add_argument("--image", metavar="PATH|URL", help="what the first disk starts as"),
        disks.add_argument(
            "--image-checksum", metavar="sha256:HEX", help="of the image (default: computed, for a file that is here)"
        ),
        disks.add_argument(
            "--image-format", choices=("qcow2", "raw"), help="default: what the name ends in; never guessed"
        ),
        disks.add_argument("--disk-size", metavar="GB", type=positive, help="of the first disk; default: the image's"),
        disks.add_argument(
            "--blank", metavar="GB", type=positive, action="append", default=[], help="an empty disk; repeatable"
        ),
        disks.add_argument(
            "--backend", choices=get_args(Backend), help="where the disks are made; default: where the node makes them"
        ),
        disks.add_argument("--kernel", metavar="PATH", type=readable_file, help="start it without a boot loader"),
        disks.add_argument("--ramdisk", metavar="PATH", type=readable_file),
        disks.add_argument("--append", metavar="TEXT", default="", help="the kernel's command line"),
    ]


def _add_guest_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    guest = parser.add_argument_group("network and guest system")
    return [
        guest.add_argument(
            "--port",
            metavar="KEY=VALUE,...",
            type=port,
            action="append",
            default=[],
            help="a NIC; keys: id, mac (default: new ones), bridge (default: br-int), vlan, mtu, "
            "ip (such as 10.0.0.5/24), gateway, dns; repeatable",
        ),
        guest.add_argument("--hostname", help="default: made from the name"),
        guest.add_argument("--user-data", metavar="FILE", type=readable_file, help="for cloud-init"),
        guest.add_argument(
            "--ssh-key",
            metavar="FILE",
            type=readable_file,
            action="append",
            default=list[Path](),
            help="public keys that may log in; repeatable",
        ),
        guest.add_argument(
            "--metadata", metavar="KEY=VALUE", type=key_value, action="append", default=[], help="repeatable"
        ),
        guest.add_argument("--no-config-drive", dest="config_drive", action="store_false", help="no NoCloud disk"),
    ]


def _name(option: argparse.Action) -> str:
    return option.option_strings[0] if option.option_strings else str(option.metavar)


def _usage_error(message: str) -> Failure:
    return Failure(message, "computectl help boot", ExitStatus.USAGE)
