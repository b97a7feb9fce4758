"""The processor, as the kernel sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What the CPUs of this host have in common."""

    vendor: str
    """``AMD``, ``Intel``, or what another calls itself."""
    model: str
    flags: frozenset[str]
    """Its features, as the kernel abbreviates them."""


def read_processor(root: Path = Path("/")) -> Processor:
    """From /proc/cpuinfo, the first CPU's part.

    :param root: of /proc.
    """
    first = (root / "proc/cpuinfo").read_text().partition("\n\n")[0]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    vendor = fields.get("vendor_id", "unknown")
    return Processor(
        vendor=_VENDORS.get(vendor, vendor),
        model=fields.get("model name", "unknown"),
        flags=frozenset(fields.get("flags", "").split()),
    )
