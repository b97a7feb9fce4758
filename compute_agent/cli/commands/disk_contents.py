"""image inspect, image put: they need the disk's file on this machine."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from cliff.show import ShowOne

from compute_agent.cli.arguments import readable_file, seconds
from compute_agent.cli.columns import Nested, Perhaps, Size
from compute_agent.cli.commands.base import ComputeCommand
from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.cli.threads import forbid_eventlet
from compute_agent.conf import DEFAULT_CONFIG_FILE
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, InvalidConfiguration, InvalidMessage
from compute_agent.instance.state import VmState


class _DiskCommand(ComputeCommand):
    """About one file that holds a disk."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With --work-dir and --timeout."""
        parser = super().get_parser(prog_name)
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

    It works on a copy, in a confined virtual machine without a network, as root on the machine that has the file. The
    disk of an instance that is stopped is found with the configuration of this machine's agent, which has to run.
    """

    synopsis = "(FILE --disk-format FORMAT | --instance INSTANCE [--disk DISK])"
    examples = (
        "  computectl image inspect debian-12.qcow2 --disk-format qcow2 -f json\n"
        "  computectl image inspect --instance web1 --disk disk1"
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """With a file or an instance."""
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a disk that no guest writes to")
        parser.add_argument("--disk-format", choices=["qcow2", "raw"], help="it is never guessed")
        parser.add_argument("--instance", help="one of this machine that is stopped: its uuid or name")
        parser.add_argument("--disk", default="disk0", help="of the instance (default: disk0)")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Look into it."""
        # It brings oslo.utils, 0.1 s that help does without.
        from compute_agent.storage.offline.report import inspect_disk  # noqa: PLC0415

        if (parsed_args.file is None) is (parsed_args.instance is None):
            raise Failure("either a FILE or an --instance is needed", "computectl help image inspect", ExitStatus.USAGE)
        if parsed_args.file is not None and parsed_args.disk_format is None:
            raise Failure("--disk-format is needed with a FILE", "computectl help image inspect", ExitStatus.USAGE)
        with ExitStack() as stack:
            file, disk_format = parsed_args.file, parsed_args.disk_format
            if parsed_args.instance is not None:
                file, disk_format = stack.enter_context(self._disk_of_instance(parsed_args)), "qcow2"
            with _explained():
                report = inspect_disk(file, disk_format, parsed_args.work_dir, parsed_args.timeout)
        plain = msgspec.to_builtins(report)
        return self.dict2columns({name: _cell(name, value) for name, value in plain.items()})

    @contextmanager
    def _disk_of_instance(self, parsed_args: argparse.Namespace) -> Iterator[Path]:
        forbid_eventlet()
        # It brings oslo.messaging.
        from compute_agent.conf.examining import examine  # noqa: PLC0415
        from compute_agent.storage.offline.instances import disk_of, flattened  # noqa: PLC0415

        view = self.client.get_instance(self.instance_uuid(parsed_args))
        if view.vm_state is not VmState.STOPPED or view.task is not None:
            doing = f" ({view.task})" if view.task else ""
            reason = f"instance {view.instance.uuid} is {view.vm_state}{doing}: only a stopped one is looked into"
            raise Failure(reason, f"computectl stop {parsed_args.instance}")
        settings = examine(Path(self.app.options.config_file or DEFAULT_CONFIG_FILE)).configuration.storage
        deadline = time.monotonic() + parsed_args.timeout
        with _explained():
            source = disk_of(view.instance, parsed_args.disk, settings)
            with flattened(source, parsed_args.work_dir, deadline) as flat:
                yield flat


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
        parser.add_argument("file", metavar="FILE", type=Path, help="a disk that nobody uses")
        parser.add_argument("--disk-format", choices=["qcow2", "raw"], required=True, help="it is never guessed")
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
    except (InvalidConfiguration, InvalidMessage) as error:
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
