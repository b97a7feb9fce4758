"""The processor, as /proc/cpuinfo has it."""

from __future__ import annotations

import re
from pathlib import Path


def is_intel(root: Path = Path("/")) -> bool:
    """Intel's, or else AMD's."""
    return "GenuineIntel" in _first_cpu(root)


def virtualization(root: Path = Path("/")) -> str | None:
    """``vmx`` or ``svm``: what the processor runs guests with, if it has it and the firmware left it on."""
    found = re.search(r"^flags\s*:.*\b(vmx|svm)\b", _first_cpu(root), re.MULTILINE)
    return found[1] if found else None


def _first_cpu(root: Path) -> str:
    return (root / "proc/cpuinfo").read_text().partition("\n\n")[0]
