"""The agent's surroundings on one machine: broker, switch, images and the agent itself, all private and real.

Tests, demo and benchmarks run in it, inside the namespaces that `enter` makes.
"""
