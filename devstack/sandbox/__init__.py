"""The agent's surroundings on one machine: broker, switch, images and the agent itself, all private and real.

Tests, demo and benchmarks run in it, inside the namespaces that `enter` makes.
"""

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # here, because nothing may have imported oslo.messaging before
