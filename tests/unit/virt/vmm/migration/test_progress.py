"""What a machine of our own tells about its way to another host."""

from __future__ import annotations

from compute_agent.virt.kvm.pages import PAGE
from compute_agent.virt.process.way_left import WayLeft
from compute_agent.virt.vmm.migration.parameters import Wishes
from compute_agent.virt.vmm.migration.progress import Progress


def test_how_long_it_will_take_follows_from_what_it_says() -> None:
    seconds = 0.0
    progress = Progress(1000 * PAGE, Wishes(), lambda: seconds)
    progress.begin_round(1000)
    assert WayLeft().look(progress.describe(), []).time_left is None
    progress.carried(500 * PAGE)
    seconds = 5.0
    assert WayLeft().look(progress.describe(), []).time_left == 5.0
    progress.carried(500 * PAGE)
    seconds = 10.0
    progress.begin_round(600)
    assert WayLeft().look(progress.describe(), []).time_left == 15.0, "60 pages a second are written meanwhile"
