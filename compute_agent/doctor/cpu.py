"""The processor, as /proc/cpuinfo has it."""

from __future__ import annotations

from pathlib import Path


def is_intel(root: Path = Path("/")) -> bool:
    """Intel's, or else AMD's."""
    return "GenuineIntel" in (root / "proc/cpuinfo").read_text().partition("\n\n")[0]
