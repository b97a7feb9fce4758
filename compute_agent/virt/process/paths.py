"""Where the files of one guest are."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import InvalidConfiguration
from compute_agent.instance.machine import HypervisorName
from compute_agent.virt.settings import VirtSettings

_SOCKET_PATH_MAX = 107
"""Bytes that fit into sockaddr_un with its closing NUL."""
_UUID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class GuestPaths:
    """The two directories of a guest and what is in them."""

    state: Path
    run: Path

    @classmethod
    def of(cls, settings: VirtSettings, instance_uuid: str) -> GuestPaths:
        return cls(settings.state_dir / instance_uuid, settings.run_dir / instance_uuid)

    @property
    def process_log(self) -> Path:
        return self.state / "process.log"

    @property
    def console_log(self) -> Path:
        return self.state / "console.log"

    @property
    def saved_state(self) -> Path:
        return self.state / "memory.state"

    @property
    def monitor_socket(self) -> Path:
        return self.run / "monitor.sock"

    @property
    def console_socket(self) -> Path:
        return self.run / "console.sock"

    @property
    def guest_agent_socket(self) -> Path:
        return self.run / "qga.sock"

    @property
    def _hypervisor(self) -> Path:
        return self.run / "hypervisor"

    def create(self, uid: int, hypervisor: HypervisorName) -> None:
        """Make both directories, for our eyes only. That of sockets shows whose process the guest is: `uid`'s."""
        for directory in (self.state, self.run):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(self.run, uid, -1)
        self._hypervisor.write_text(hypervisor)

    def is_of(self, hypervisor: HypervisorName) -> bool:
        """That one has started the guest; QEMU, where an agent has that knew no other."""
        try:
            return self._hypervisor.read_text() == hypervisor
        except FileNotFoundError:
            return hypervisor == "qemu"

    def remove(self) -> None:
        """Remove both with all that is in them. Nothing happens where they are not."""
        for directory in (self.run, self.state):
            if directory.exists():
                shutil.rmtree(directory)


def check_directories(settings: VirtSettings) -> None:
    """Make the directories of all guests.

    :raises InvalidConfiguration: one cannot be made, or sockets in it would have too long a name.
    """
    longest = GuestPaths.of(settings, "x" * _UUID_LENGTH).monitor_socket
    excess = len(bytes(longest)) - _SOCKET_PATH_MAX
    if excess > 0:
        reason = f"too long by {excess} bytes: names of Unix sockets end at {_SOCKET_PATH_MAX}"
        raise InvalidConfiguration("virt.run_dir", str(settings.run_dir), reason)
    for option in ("state_dir", "run_dir"):
        directory: Path = getattr(settings, option)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidConfiguration(f"virt.{option}", str(directory), error.strerror or str(error)) from error
