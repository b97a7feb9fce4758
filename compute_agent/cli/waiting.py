"""Waiting for the end of an operation. It goes on whether or not anybody waits."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from compute_agent.cli.progress import ProgressDisplay
from compute_agent.errors import DeadlineExceeded, HostError
from compute_agent.instance.view import OperationView

if TYPE_CHECKING:
    from compute_agent.rpc.client import ComputeClient

PATIENCE = 60.0
"""Seconds without an answer before waiting is given up: an agent or a broker that is restarted is back long before."""

PAUSE = 1.0
"""Seconds before the agent is asked again."""


def wait_for_end(client: ComputeClient, request_id: str, display: ProgressDisplay) -> OperationView:
    """Show the operation until it is done or has failed.

    :raises DeadlineExceeded, HostError: the agent could not be asked, or gave no answer, for `PATIENCE` seconds.
    """
    answered_at = time.monotonic()

    def show(view: OperationView) -> None:
        nonlocal answered_at
        answered_at = time.monotonic()
        display.show(view)

    while True:
        try:
            return client.wait(request_id, math.inf, on_progress=show)
        except (DeadlineExceeded, HostError) as error:
            if time.monotonic() >= answered_at + PATIENCE:
                raise
            display.remark(f"{error}; asking again")
            time.sleep(PAUSE)
