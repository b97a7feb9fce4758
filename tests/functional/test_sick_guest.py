"""A guest whose process is stopped dead is shown as that, harms nobody, and can be removed."""

from __future__ import annotations

import os
import signal
import time

from compute_agent.instance.state import PowerState
from tests.functional.guests import Guests, an_order, until

AT_ONCE = 8.0
"""Seconds; what the agent would lose if it waited for the sick guest is more: 10."""


def test_a_silent_guest_is_unresponsive_and_the_others_are_served(guests: Guests) -> None:
    sick, well = guests.boot(), guests.boot(an_order(arguments="counter"))
    pid = guests.view(sick.uuid).pid or 0
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    shown = {view.instance.uuid: view.power_state for view in guests.client.list_instances()}
    assert shown == {sick.uuid: PowerState.UNRESPONSIVE, well.uuid: PowerState.RUNNING}
    stuck = guests.client.pause_instance(sick.uuid)
    guests.finish(guests.client.pause_instance(well.uuid))
    guests.finish(guests.client.unpause_instance(well.uuid))
    assert time.monotonic() - began < AT_ONCE
    os.kill(pid, signal.SIGCONT)
    guests.finish(stuck)
    until(lambda: guests.view(sick.uuid).power_state is PowerState.PAUSED)


def test_a_silent_guest_can_be_terminated(guests: Guests) -> None:
    sick = guests.boot()
    os.kill(guests.view(sick.uuid).pid or 0, signal.SIGSTOP)
    guests.finish(guests.client.terminate_instance(sick.uuid), AT_ONCE)
    assert guests.client.list_instances() == []
