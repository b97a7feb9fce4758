"""Where the files of one block server are."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

ADMISSION_SUFFIX = ".admission"


@dataclass(frozen=True, slots=True)
class ServerPaths:
    """The directory of an instance's block server and what is in it."""

    run: Path

    @property
    def monitor_socket(self) -> Path:
        return self.run / "monitor.sock"

    @property
    def nbd_socket(self) -> Path:
        return self.run / "nbd.sock"

    @property
    def log(self) -> Path:
        return self.run / "server.log"

    @property
    def admission(self) -> Path:
        """The note of a file that is the server's for a moment; not where the server's user could write one."""
        return self.run.with_name(f"{self.run.name}{ADMISSION_SUFFIX}")

    @property
    def owner(self) -> int:
        """The server's user."""
        return self.run.stat().st_uid

    def create(self, uid: int) -> None:
        """Make the directory, for our eyes only. It shows whose process the server is: `uid`'s."""
        self.run.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.run, uid, -1)

    def remove(self) -> None:
        """Remove it with all that is in it. Nothing happens where it is not."""
        if self.run.exists():
            shutil.rmtree(self.run)
