"""What happens to disks of a running guest at one moment, with its file systems frozen where they can be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from compute_agent.host.qmp import Execute
from compute_agent.virt.qemu.freezing import Freeze

LOG = logging.getLogger(__name__)

_CHANNEL = "guest-agent"


class Moments:
    """Of one guest."""

    def __init__(self, execute: Execute, freeze: Callable[[], Freeze]) -> None:
        self._execute = execute
        self._freeze = freeze

    def have(self, actions: Sequence[dict[str, object]]) -> bool:
        """Actions of QEMU's, all at the same moment; as `at`.

        :raises MonitorError: nothing has happened.
        """
        return self.at(lambda: self._execute("transaction", {"actions": actions}))

    def at(self, act: Callable[[], object]) -> bool:
        """True: the guest's file systems were consistent all the time that `act` took."""
        if not self._has_guest_agent():
            LOG.info("No guest agent: the disks are taken as a power failure would leave them")
            act()
            return False
        with self._freeze() as freeze:
            act()
        return freeze.has_held

    def _has_guest_agent(self) -> bool:
        """Somebody in the guest has its end of the channel open."""
        return any(one["label"] == _CHANNEL and one["frontend-open"] for one in self._execute("query-chardev"))
