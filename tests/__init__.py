"""Unit tests need no root and no services, and neither do those of a room with the programs that it runs (`processes`:
QEMU, qemu-img, block servers, the agent's own). Functional tests and benchmarks run in a sandbox."""

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # here, because nothing may have imported oslo.messaging before
