"""What somebody finds in a disk's image who opens it from outside."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.commands import run


def word_at(path: Path, at: int) -> str:
    """The first line of a qcow2 from byte `at` on."""
    dump = run("qemu-io", "-r", "-U", "-f", "qcow2", "-c", f"read -v {at} 16", path)
    found = re.search(r"^[0-9a-f]{8}: ((?: [0-9a-f]{2}){16})", dump, re.MULTILINE)
    assert found is not None, dump
    return bytes.fromhex(found[1]).split(b"\n")[0].strip(b"\0").decode(errors="replace")


def is_same(one: Path, other: Path, formats: tuple[str, str] = ("qcow2", "qcow2")) -> bool:
    """A guest would find the same in both."""
    words = ("-f", formats[0], "-F", formats[1], one, other)
    return "identical" in run("qemu-img", "compare", "--force-share", *words)


def needs_recovery(raw: Path) -> bool:
    """The ext4 that fills the image was in use when it was copied."""
    return "needs_recovery" in run("dumpe2fs", "-h", raw)
