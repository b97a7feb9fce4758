"""So many guests leave this host at once; the others wait, in the order in which they were told to.

All of them share the host's network, processors and disks: who moves beside many others takes as long as all of them,
and each is late. Whose turn it is the journal knows, so that the next agent does not begin more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from compute_agent.agent.journal import Journal
from compute_agent.instance.view import StepState

AWAIT_TURN, HAND_OVER = "await_turn", "hand_over"
"""Steps: from the end of the one until the other is begun a guest is under way. In the other it may have to wait for
an answer for ever, and nothing of it is carried by then, but what is left in post-copy."""

Resting = Callable[[], AbstractContextManager[None]]
"""Entered by who waits, so that something else can be done meanwhile."""


class Turns:
    """Methods may be called from any thread."""

    def __init__(self, journal: Journal, at_once: int, resting: Resting) -> None:
        """At most `at_once` of them are under way; those that wait do so in `resting`."""
        self._journal = journal
        self._at_once = at_once
        self.resting = resting

    def take(self, request_id: str) -> bool:
        """Whether it is this one's turn. It is noted so at once: who looks next counts it.

        :raises JournalError: that cannot be written down, and it is not.
        """
        with self._journal.transaction():
            standing, handed_over = map(self._journal.unfinished_steps, (AWAIT_TURN, HAND_OVER))
            under_way = [one for one, state in standing.items() if state is StepState.DONE and one not in handed_over]
            waiting = [one for one, state in standing.items() if state is StepState.INTENDED]
            if request_id not in waiting[: max(self._at_once - len(under_way), 0)]:
                return False
            self._journal.set_step(request_id, AWAIT_TURN, StepState.DONE)
            return True
