"""The flavor extra specs that this agent acts upon, with Nova's names and meanings.

Others are for a scheduler or for another hypervisor, or say which one it is to be
(`compute_agent.virt.choice`), and are left alone; but an unknown one under ``quota:``
is refused: its owner would believe in a limit that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from compute_agent.errors import InvalidMessage
from compute_agent.instance.model import Flavor

_QUOTA = "quota:"
_MULTIQUEUE = "hw:vif_multiqueue_enabled"
_SMALLEST_PERIOD, _LARGEST_PERIOD = 1_000, 1_000_000
"""Microseconds; what the kernel's scheduler takes."""
_MOST_DIGITS = 19
"""More than any limit has; Python refuses to read thousands of them."""
_LONGEST_NAME = 80
"""Characters that are shown."""


class Quota(Struct, frozen=True, kw_only=True):
    """Limits of a guest's process; None: not limited."""

    cpu_quota: int | None = None
    """Microseconds of CPU time that all vCPUs together get in each period."""
    cpu_period: int = 100_000
    """Microseconds."""
    disk_read_bytes_sec: int | None = None
    disk_write_bytes_sec: int | None = None
    disk_read_iops_sec: int | None = None
    disk_write_iops_sec: int | None = None
    """All disks of the instance together."""

    @property
    def limits_disks(self) -> bool:
        """Any of the limits on disks is set."""
        return any(getattr(self, name) is not None for name in self.__struct_fields__ if name.startswith("disk_"))


class ExtraSpecs(Struct, frozen=True, kw_only=True):
    """What they come to."""

    quota: Quota = Quota()
    multiqueue: bool = False
    """Each NIC gets a queue pair for every vCPU."""


def read_extra_specs(specs: Mapping[str, str]) -> ExtraSpecs:
    """:raises InvalidMessage: names the spec, its value and what it may be."""
    quota = {name.removeprefix(_QUOTA): _limit(name, value) for name, value in specs.items() if name.startswith(_QUOTA)}
    return ExtraSpecs(
        quota=Quota(**quota),
        multiqueue=_boolean(_MULTIQUEUE, specs.get(_MULTIQUEUE, "false")),
    )


def queue_pairs(flavor: Flavor) -> int:
    """Of each NIC. The kernel's tap takes 256, and no flavor has more than 255 vCPUs."""
    return flavor.vcpus if read_extra_specs(flavor.extra_specs).multiqueue else 1


def _limit(name: str, value: str) -> int:
    if name.removeprefix(_QUOTA) not in Quota.__struct_fields__:
        known = ", ".join(_QUOTA + field for field in Quota.__struct_fields__)
        raise _refused(name, value, f"unknown; this agent knows {known}")
    if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS and 1 <= int(value) < 2**63):
        raise _refused(name, value, "must be a positive whole number")
    number = int(value)
    if name == f"{_QUOTA}cpu_period" and not _SMALLEST_PERIOD <= number <= _LARGEST_PERIOD:
        raise _refused(name, value, f"must be {_SMALLEST_PERIOD} to {_LARGEST_PERIOD} microseconds")
    if name == f"{_QUOTA}cpu_quota" and number < _SMALLEST_PERIOD:
        raise _refused(name, value, f"must be at least {_SMALLEST_PERIOD} microseconds")
    return number


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise _refused(name, value, "must be true or false")
    return value.lower() == "true"


def _refused(name: str, value: str, reason: str) -> InvalidMessage:
    return InvalidMessage(f"instance.flavor.extra_specs[{name[:_LONGEST_NAME]!r}]", value, reason)
