"""What is done about a guest that writes faster than its memory is carried, and when."""

from __future__ import annotations

from compute_agent.agent.operations.convergence import Convergence
from compute_agent.agent.settings import MigrationSettings

SETTINGS = MigrationSettings(max_bandwidth=10, downtime=0.3, longest_downtime=4.3, timeout=100.0)


def test_it_may_stand_still_longer_then_it_is_slowed_down_then_its_time_is_over() -> None:
    now = 1000.0
    convergence = Convergence(SETTINGS, lambda: now)
    seen = []
    for elapsed in (0.0, 7.0, 25.0, 49.0, 50.0, 100.0, 101.0):
        now = 1000.0 + elapsed
        if not seen:
            assert convergence.first_pace() == convergence.pace()
        pace = convergence.pace()
        assert pace.bandwidth == 10 * 1024**2
        seen.append((round(pace.downtime, 2), pace.throttles, convergence.is_over()))
    assert seen == [
        (0.3, False, False),
        (0.8, False, False),
        (2.3, False, False),
        (3.8, False, False),
        (4.3, True, False),
        (4.3, True, False),
        (4.3, True, True),
    ]


def test_a_longest_time_below_the_first_one_does_not_count() -> None:
    settings = MigrationSettings(downtime=1.0, longest_downtime=0.5, timeout=1.0)
    now = 0.0
    convergence = Convergence(settings, lambda: now)
    assert convergence.pace().downtime == 1.0
    now = 0.9
    assert convergence.pace().downtime == 1.0
