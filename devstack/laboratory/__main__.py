"""The command `lab`."""

from __future__ import annotations

import argparse
import shlex
import sys

from laboratory import ending, inside, record
from laboratory.requirements import require_all, require_root
from laboratory.settings import MOST_HOSTS, HostSettings
from laboratory.starting import start
from sandbox.commands import SandboxError
from sandbox.narrator import Narrator

_DEFAULTS = HostSettings()


def main() -> int:
    """The exit status: the command's own with `run`, 1 where something is wrong with the lab, 2 with what was asked."""
    options = _parser().parse_args()
    try:
        require_root()
        return int(options.action(options))
    except SandboxError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up(options: argparse.Namespace) -> int:
    settings = HostSettings(
        cpus=options.cpus,
        memory_mib=options.memory,
        qemu_arguments=tuple(word for words in options.qemu for word in shlex.split(words)),
        kernel_arguments=options.append,
    )
    require_all(options.hosts, settings)
    start(options.hosts, settings, options.offers, Narrator())
    return 0


def _run(options: argparse.Namespace) -> int:
    lab = record.read()
    inside.require_host(lab, options.host)
    return inside.run(lab, options.host, tuple(options.command))


def _console(options: argparse.Namespace) -> int:
    lab = record.read()
    inside.require_host(lab, options.host)
    return inside.open_console(lab, options.host)


def _shell(_: argparse.Namespace) -> int:
    return inside.open_shell(record.read())


def _down(_: argparse.Namespace) -> int:
    ending.end(record.read())
    return 0


def _status(_: argparse.Namespace) -> int:
    lab = record.read()
    print(f"broker: {lab.transport_url}\nfiles: {lab.directory}")
    for host, address in lab.hosts.items():
        print(f"{host}: {address}, {inside.state_of(lab, host)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Virtual compute hosts on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring the hosts up, with an agent on each")
    up.set_defaults(action=_up)
    up.add_argument("hosts", nargs="?", type=int, default=2, metavar="N", help=f"1 to {MOST_HOSTS}, 2 unless given")
    up.add_argument("--cpus", type=int, default=_DEFAULTS.cpus, help="of each host")
    up.add_argument("--memory", type=int, default=_DEFAULTS.memory_mib, metavar="MIB", help="of each host")
    up.add_argument("--qemu", action="append", default=[], metavar="ARGS", help="more of QEMU's arguments: devices, …")
    up.add_argument("--append", default="", metavar="ARGS", help="more of the kernel's arguments")
    for option, offer, text in (
        ("--shared", "directory", "one directory for all hosts, at /shared, by NFS"),
        ("--ceph", "ceph", "a cluster for the hosts' disks"),
    ):
        up.add_argument(option, dest="offers", action="append_const", const=offer, default=[], help=text)
    run = commands.add_parser("run", help="run a command in a host, or a shell")
    run.set_defaults(action=_run)
    run.add_argument("host", metavar="HOST")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    console = commands.add_parser("console", help="the serial console of a host")
    console.set_defaults(action=_console)
    console.add_argument("host", metavar="HOST")
    for name, action, text in (
        ("shell", _shell, "a shell on the hosts' network, for computectl"),
        ("status", _status, "what is up"),
        ("down", _down, "take it all down"),
    ):
        commands.add_parser(name, help=text).set_defaults(action=action)
    return parser


if __name__ == "__main__":
    sys.exit(main())
