"""qemu-img, run with a deadline and limits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.storage.secrets import readable_once

_CHECK_FOUND_LEAKS = 3
"""qemu-img check: clusters that nobody uses, which harms nobody."""

_SECRET = "passphrase"

LUKS_HEADER = 2068480
"""Bytes that a LUKS container takes besides its content, as qemu-img makes it."""

_UNLUCKY = "Unable to get accurate CPU usage"
"""QEMU 7.2 may see no time pass while it measures how much work a passphrase shall cost; the next time it does."""

_ATTEMPTS = 5

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

    def create_luks_header(self, path: Path, passphrase: str) -> None:
        """A LUKS container with nothing in it: `LUKS_HEADER` bytes."""
        self._encrypt("luks", passphrase, "-o", f"key-secret={_SECRET}", str(path), "0")

    def resize(self, path: Path, size: int, image_format: str = "qcow2", passphrase: str | None = None) -> None:
        """Give the guest `size` bytes in the image, which only ever grows; one that is encrypted has to be opened."""
        with _named(path, image_format, passphrase) as (image, fds):
            self._require("resize", "-q", *image, str(size), pass_fds=fds)

    def stand_on(self, path: Path, base: tuple[Path, str], passphrase: str | None = None) -> None:
        """Have the qcow2 at `path` name this base (path, format), which has the same content as its present one."""
        path_of_base, base_format = base
        with _named(path, "qcow2", passphrase) as (image, fds):
            self._require("rebase", "-u", "-q", "-F", base_format, "-b", str(path_of_base), *image, pass_fds=fds)

    def check(self, path: Path, passphrase: str | None = None) -> str | None:
        """What is wrong with the qcow2 at `path`, in one line; None where it is sound, and the passphrase opens it."""
        with _named(path, "qcow2", passphrase) as (image, fds):
            result = self._run("check", "-q", *image, pass_fds=fds)
        if result.returncode in (0, _CHECK_FOUND_LEAKS):
            return None
        return _reason(result)

    def _create(self, options: Sequence[str], passphrase: str | None, *arguments: str) -> None:
        chosen = [word for option in options for word in ("-o", option)]
        if passphrase is None:
            self._require("create", "-q", "-f", "qcow2", *chosen, *arguments)
            return
        encryption = ("-o", "encrypt.format=luks", "-o", f"encrypt.key-secret={_SECRET}")
        self._encrypt("qcow2", passphrase, *chosen, *encryption, *arguments)

    def _encrypt(self, image_format: str, passphrase: str, *arguments: str) -> None:
        """Create an image that only the passphrase opens."""
        for _ in range(_ATTEMPTS):
            with _secret(passphrase) as (fd, secret):
                result = self._run("create", "-q", "-f", image_format, *secret, *arguments, pass_fds=[fd])
            if _UNLUCKY not in result.stderr:
                break
        _check(result)

    def _require(self, *arguments: str, pass_fds: Sequence[int] = ()) -> str:
        """What it printed."""
        result = self._run(*arguments, pass_fds=pass_fds)
        _check(result)
        return result.stdout

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


@contextmanager
def _named(path: Path, image_format: str, passphrase: str | None) -> Iterator[tuple[Sequence[str], Sequence[int]]]:
    """The words that name an image, and what has to be passed with them; one that is encrypted has to be opened."""
    if passphrase is None:
        yield ("-f", image_format, str(path)), ()
        return
    file, key = {"driver": "file", "filename": str(path)}, {"key-secret": _SECRET}
    node = (
        {"driver": "qcow2", "file": file, "encrypt": {"format": "luks"} | key}
        if image_format == "qcow2"
        else {"driver": "luks", "file": file} | key
    )
    with _secret(passphrase) as (fd, secret):
        yield (*secret, f"json:{json.dumps(node)}"), (fd,)


@contextmanager
def _secret(passphrase: str) -> Iterator[tuple[int, Sequence[str]]]:
    """A descriptor to pass on, and the words that make it the secret `_SECRET`."""
    with readable_once(passphrase) as fd:
        yield fd, ("--object", f"secret,id={_SECRET},file=/proc/self/fd/{fd}")


def _check(result: subprocess.CompletedProcess[str]) -> None:
    if result.returncode != 0:
        raise StorageError(_reason(result))


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    lines: Sequence[str] = (result.stderr or result.stdout).strip().splitlines()
    return lines[0][-200:] if lines else f"qemu-img ended with status {result.returncode}"
