"""Unit tests need no root and no services; functional tests and benchmarks run in a sandbox."""

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # here, because nothing may have imported oslo.messaging before
