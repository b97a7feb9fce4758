"""qemu-img, run with a deadline and limits."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.storage.secrets import readable_once

_CHECK_FOUND_LEAKS = 3
"""qemu-img check: clusters that nobody uses, which harms nobody."""

_SECRET = "passphrase"

_MEMORY = 2 * 1024**3
"""Bytes of address space: images from strangers decide how large the tables are that it reads."""


@dataclass(frozen=True, slots=True)
class QemuImg:
    """The program `binary`; each run may take `timeout` seconds."""

    binary: str
    timeout: float

    def create_overlay(
        self,
        path: Path,
        base: tuple[Path, str],
        size: int,
        preallocation: str = "off",
        passphrase: str | None = None,
    ) -> None:
        """A qcow2 of `size` bytes that holds what differs from a base (path, format).

        The base was inspected: it is not opened again.
        """
        # Only with subclusters can a cluster be allocated and still read as the base's.
        options = [] if preallocation == "off" else [f"preallocation={preallocation}", "extended_l2=on"]
        path_of_base, base_format = base
        self._create(options, passphrase, "-u", "-F", base_format, "-b", str(path_of_base), str(path), str(size))

    def create_empty(self, path: Path, size: int, preallocation: str = "off", passphrase: str | None = None) -> None:
        """A qcow2 of `size` bytes that reads as zeros; what is not preallocated takes space as it is written.

        With a passphrase, which nobody gets to see, it is encrypted (LUKS).
        """
        self._create([f"preallocation={preallocation}"], passphrase, str(path), str(size))

    def resize(self, path: Path, size: int, image_format: str = "qcow2") -> None:
        """Make the image `size` bytes large; it only ever grows."""
        self._require("resize", "-q", "-f", image_format, str(path), str(size))

    def check(self, path: Path) -> str | None:
        """What is wrong with the qcow2 at `path`, in one line; None where it is sound."""
        result = self._run("check", "-q", "-f", "qcow2", str(path))
        if result.returncode in (0, _CHECK_FOUND_LEAKS):
            return None
        return _reason(result)

    def _create(self, options: Sequence[str], passphrase: str | None, *arguments: str) -> None:
        chosen = [word for option in options for word in ("-o", option)]
        command = ["create", "-q", "-f", "qcow2", *chosen]
        if passphrase is None:
            self._require(*command, *arguments)
            return
        with readable_once(passphrase) as fd:
            secret = ("--object", f"secret,id={_SECRET},file=/proc/self/fd/{fd}")
            encryption = ("-o", "encrypt.format=luks", "-o", f"encrypt.key-secret={_SECRET}")
            self._require(*command, *secret, *encryption, *arguments, pass_fds=[fd])

    def _require(self, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        result = self._run(*arguments, pass_fds=pass_fds)
        if result.returncode != 0:
            raise StorageError(_reason(result))

    def _run(self, *arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        command = (
            *("setpriv", "--pdeathsig", "KILL"),  # an agent that dies leaves nobody who writes
            "prlimit",
            f"--as={_MEMORY}",
            f"--cpu={max(1, int(self.timeout))}",
            "--core=0",
            self.binary,
            *arguments,
        )
        try:
            return subprocess.run(
                command,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise StorageError(f"qemu-img {arguments[0]} did not finish within {self.timeout:g} s") from error


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    lines: Sequence[str] = (result.stderr or result.stdout).strip().splitlines()
    return lines[0][:200] if lines else f"qemu-img ended with status {result.returncode}"
