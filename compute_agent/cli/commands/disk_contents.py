"""image inspect, image put: what needs no agent, but the disk's file on this machine."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from cliff.show import ShowOne

from compute_agent.cli.arguments import readable_file, seconds
from compute_agent.cli.columns import Nested, Perhaps, Size
from compute_agent.cli.commands.base import ComputeCommand
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, InvalidConfiguration


class _DiskCommand(ComputeCommand):
    """About one file that holds a disk."""

    synopsis = "FILE --disk-format FORMAT"

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With FILE, --disk-format, --work-dir and --timeout."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", type=Path, help="a disk that no guest writes to")
        parser.add_argument("--disk-format", choices=["qcow2", "raw"], required=True, help="it is never guessed")
        parser.add_argument(
            "--work-dir",
            metavar="DIRECTORY",
            type=Path,
            default=Path(tempfile.gettempdir()),
            help="where a copy of the disk has room (default: %(default)s)",
        )
        parser.add_argument(
            "--timeout", metavar="SECONDS", type=seconds, default=300.0, help="for all of it (default: 300)"
        )
        return parser


class ImageInspect(_DiskCommand, ShowOne):
    """Look into a disk: operating system, partitions, file systems.

    It works on a copy, in a confined virtual machine without a network, as root on the machine that has the file.
    """

    examples = "  computectl image inspect debian-12.qcow2 --disk-format qcow2 -f json"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Look into it."""
        # It brings oslo.utils, 0.1 s that help does without.
        from compute_agent.storage.offline.report import inspect_disk  # noqa: PLC0415

        with _explained():
            report = inspect_disk(parsed_args.file, parsed_args.disk_format, parsed_args.work_dir, parsed_args.timeout)
        plain = msgspec.to_builtins(report)
        return self.dict2columns({name: _cell(name, value) for name, value in plain.items()})


class ImagePut(_DiskCommand):
    """Put files, ssh keys or a password into a disk that nobody uses: all of it, or nothing.

    It works on a copy that takes the disk's place at the end, as root on the machine that has the file.
    """

    synopsis = "FILE --disk-format FORMAT (--copy LOCAL:REMOTE | --ssh-key USER:KEYFILE | --password USER) ..."
    examples = (
        "  computectl image put web.qcow2 --disk-format qcow2 --copy motd:/etc/motd --ssh-key root:id_ed25519.pub\n"
        "  pass show web | computectl image put web.qcow2 --disk-format qcow2 --password debian"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With what is to be put."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--copy", metavar="LOCAL:REMOTE", type=_copy, action="append", default=[])
        parser.add_argument("--ssh-key", metavar="USER:KEYFILE", type=_key, action="append", default=[])
        parser.add_argument("--password", metavar="USER", help="the password is read, never an argument")
        parser.add_argument(
            "--password-fd", metavar="N", type=int, default=0, help="from this descriptor (default: standard input)"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Change it."""
        from compute_agent.storage.offline.changes import Changes, change_disk  # noqa: PLC0415

        passwords = [(parsed_args.password, _read_password(parsed_args.password_fd))] if parsed_args.password else []
        changes = Changes(files=parsed_args.copy, ssh_keys=parsed_args.ssh_key, passwords=passwords)
        if changes == Changes():
            raise Failure("nothing to put into the disk", "computectl help image put", ExitStatus.USAGE)
        with _explained():
            change_disk(parsed_args.file, parsed_args.disk_format, changes, parsed_args.work_dir, parsed_args.timeout)


@contextmanager
def _explained() -> Iterator[None]:
    """No agent is asked: its advice would not help."""
    try:
        yield
    except InvalidConfiguration as error:
        raise Failure(str(error), "nothing was changed; correct it", ExitStatus.USAGE) from error
    except DeadlineExceeded as error:
        raise Failure(str(error), "nothing was changed; give it longer with --timeout") from error
    except ComputeAgentError as error:
        raise Failure(str(error), "nothing was changed; libguestfs-test-tool says more about libguestfs") from error


def _cell(name: str, value: Any) -> object:
    if name == "virtual_size":
        return Size(value)
    return Nested(value) if isinstance(value, list) else Perhaps(value)


def _copy(text: str) -> tuple[Path, str]:
    local, _, remote = text.partition(":")
    if not remote.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not LOCAL:REMOTE with an absolute path in the disk")
    return readable_file(local), remote


def _key(text: str) -> tuple[str, str]:
    name, _, path = text.partition(":")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not USER:KEYFILE")
    key = readable_file(path).read_text().strip()
    if "\n" in key or len(key.split()) < 2:
        raise argparse.ArgumentTypeError(f"{path} is not one public key")
    return name, key


def _read_password(descriptor: int) -> str:
    if descriptor == 0 and sys.stdin.isatty():
        return getpass.getpass()
    try:
        with os.fdopen(descriptor, closefd=False) as file:
            password = file.readline().rstrip("\n")
    except (OSError, ValueError) as error:
        raise Failure(f"the password cannot be read: {error}", "see --password-fd", ExitStatus.USAGE) from error
    if not password:
        raise Failure("the password is empty", "write it to standard input, or see --password-fd", ExitStatus.USAGE)
    return password
