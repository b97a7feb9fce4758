"""compute-agent: the service's front door."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from compute_agent.cli.threads import forbid_eventlet
from compute_agent.errors import ComputeAgentError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until SIGTERM or SIGINT; then the process ends with status 0.

    Status 1: it could not start, one line on stderr says why.
    """
    forbid_eventlet()
    from compute_agent.cli.service import run  # noqa: PLC0415  brings oslo.messaging along

    try:
        run(sys.argv[1:] if argv is None else argv)
    except ComputeAgentError as error:
        print(f"compute-agent: {error}", file=sys.stderr)
        return 1
    logging.shutdown()
    # A thread may still be in a download, or in an answer to a broker that is gone, and Python would wait for it.
    # What it leaves undone is in the journal.
    os._exit(0)
