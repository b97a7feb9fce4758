"""A share of `make fuzz`: the same cases each time."""

from __future__ import annotations

import pytest

from tests.fuzz.target import Target, run_cases
from tests.fuzz.targets import TARGETS

LEAST, FOR_EACH_WEIGHT = 5, 6
"""Cases."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_hostile_input_is_refused_by_name(target: Target) -> None:
    cases = range(max(LEAST, round(FOR_EACH_WEIGHT * target.weight)))
    assert "\n".join(map(str, run_cases(target, "unit", cases))) == ""
