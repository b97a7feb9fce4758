"""The parts of `demo.py`: how it talks, its guests, and what it shows."""

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # here, because nothing may have imported oslo.messaging before
