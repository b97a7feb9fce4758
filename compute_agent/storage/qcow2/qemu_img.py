"""qemu-img, run with a deadline and limits."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import StorageError

_CHECK_FOUND_LEAKS = 3
"""qemu-img check: clusters that nobody uses, which harms nobody."""

_MEMORY = 2 * 1024**3
"""Bytes of address space: images from strangers decide how large the tables are that it reads."""


@dataclass(frozen=True, slots=True)
class QemuImg:
    """The program `binary`; each run may take `timeout` seconds."""

    binary: str
    timeout: float

    def create_overlay(self, path: Path, base: Path, base_format: str, size: int, preallocation: str = "off") -> None:
        """A qcow2 of `size` bytes that holds what differs from `base`, which was inspected: it is not opened again."""
        # Only with subclusters can a cluster be allocated and still read as the base's.
        options = [] if preallocation == "off" else ["-o", f"preallocation={preallocation},extended_l2=on"]
        self._create("-u", "-F", base_format, "-b", str(base), *options, str(path), str(size))

    def create_empty(self, path: Path, size: int, preallocation: str = "off") -> None:
        """A qcow2 of `size` bytes that reads as zeros; what is not preallocated takes space as it is written."""
        self._create("-o", f"preallocation={preallocation}", str(path), str(size))

    def resize(self, path: Path, size: int, image_format: str = "qcow2") -> None:
        """Make the image `size` bytes large; it only ever grows."""
        result = self._run("resize", "-q", "-f", image_format, str(path), str(size))
        if result.returncode != 0:
            raise StorageError(_reason(result))

    def check(self, path: Path) -> str | None:
        """What is wrong with the qcow2 at `path`, in one line; None where it is sound."""
        result = self._run("check", "-q", "-f", "qcow2", str(path))
        if result.returncode in (0, _CHECK_FOUND_LEAKS):
            return None
        return _reason(result)

    def _create(self, *arguments: str) -> None:
        result = self._run("create", "-q", "-f", "qcow2", *arguments)
        if result.returncode != 0:
            raise StorageError(_reason(result))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (
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
