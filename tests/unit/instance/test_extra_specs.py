"""What flavor extra specs come to, and which are refused."""

from __future__ import annotations

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.extra_specs import ExtraSpecs, Quota, read_extra_specs

MULTIQUEUE = "hw:vif_multiqueue_enabled"


def test_without_any_nothing_is_limited() -> None:
    specs = read_extra_specs({})
    assert specs == ExtraSpecs(quota=Quota(cpu_quota=None, cpu_period=100_000), multiqueue=False)
    assert not specs.quota.limits_disks


def test_those_of_others_are_left_alone() -> None:
    assert read_extra_specs({"trait:HW_CPU_X86_AVX2": "required", "hw:cpu_policy": "dedicated"}) == ExtraSpecs()


def test_every_limit_is_read() -> None:
    limits = {name: number for number, name in enumerate(Quota.__struct_fields__, 5000)}
    specs = read_extra_specs({f"quota:{name}": str(number) for name, number in limits.items()})
    assert specs.quota == Quota(**limits)


@pytest.mark.parametrize("name", [name for name in Quota.__struct_fields__ if name.startswith("disk_")])
def test_any_limit_on_disks_counts(name: str) -> None:
    assert read_extra_specs({f"quota:{name}": "1"}).quota.limits_disks


def test_a_limit_on_the_cpu_is_none_on_disks() -> None:
    assert not read_extra_specs({"quota:cpu_quota": "50000"}).quota.limits_disks


@pytest.mark.parametrize(("value", "multiqueue"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
def test_multiqueue(value: str, multiqueue: bool) -> None:
    assert read_extra_specs({MULTIQUEUE: value}).multiqueue is multiqueue


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (MULTIQUEUE, "yes", "must be true or false"),
        (MULTIQUEUE, "", "must be true or false"),
        ("quota:vif_inbound_average", "100", "unknown; this agent knows quota:cpu_quota, quota:cpu_period, "),
        ("quota:", "1", "unknown"),
        ("quota:limits_disks", "1", "unknown"),
        ("quota:cpu_quota", "half", "must be a positive whole number"),
        ("quota:cpu_quota", "-1", "must be a positive whole number"),
        ("quota:cpu_quota", "1e6", "must be a positive whole number"),
        ("quota:cpu_quota", "999", "must be at least 1000 microseconds"),
        ("quota:cpu_period", "999", "must be 1000 to 1000000 microseconds"),
        ("quota:cpu_period", "1000001", "must be 1000 to 1000000 microseconds"),
        ("quota:disk_read_iops_sec", "0", "must be a positive whole number"),
        ("quota:disk_read_bytes_sec", "\u0663", "must be a positive whole number"),
        ("quota:disk_write_bytes_sec", str(2**63), "must be a positive whole number"),
    ],
)
def test_a_bad_one_is_refused_by_name_and_value(name: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        read_extra_specs({name: value})
    message = str(refused.value)
    assert f"instance.flavor.extra_specs[{name!r}]" in message
    assert repr(value) in message
    assert reason in message


@pytest.mark.parametrize(("name", "value"), [("quota:cpu_period", "1000"), ("quota:cpu_period", "1000000")])
def test_the_edges_are_taken(name: str, value: str) -> None:
    assert read_extra_specs({name: value}).quota.cpu_period == int(value)


def test_a_number_of_thousands_of_digits_is_not_even_read() -> None:
    with pytest.raises(InvalidMessage, match="must be a positive whole number"):
        read_extra_specs({"quota:cpu_quota": "9" * 5000})


def test_a_name_without_an_end_is_shown_in_part() -> None:
    with pytest.raises(InvalidMessage, match="unknown") as caught:
        read_extra_specs({"quota:" + "x" * 5000: "1"})
    assert len(caught.value.field) < 200
