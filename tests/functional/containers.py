"""Disks that somebody else has encrypted."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.functional.guests import until

_UNLUCKY = "Unable to get accurate CPU usage"
"""What qemu-img says now and then where it shares its CPU."""


def make_encrypted(path: Path, format: str, secret: Path, *more: str, size: str = "16M") -> Path:
    """A container (``luks``) or an encrypted ``qcow2``, for so much content. What `secret` holds opens it quickly."""
    prefix = "" if format == "luks" else "encrypt."
    chosen = {"key-secret": "s", "iter-time": "10"} | ({"format": "luks"} if prefix else {})
    options = ",".join(f"{prefix}{name}={value}" for name, value in chosen.items())
    words = ("-f", format, "--object", f"secret,id=s,file={secret}", "-o", options, *more, path, size)
    until(lambda: _succeeds("qemu-img", "create", "-q", *words))
    return path


def _succeeds(*command: str | Path) -> bool:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 or _UNLUCKY in done.stderr, done.stderr
    return done.returncode == 0
