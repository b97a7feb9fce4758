"""Options of compute-agent.conf, one module a section, turned into the rooms' typed settings."""

DEFAULT_CONFIG_FILE = "/etc/compute-agent/compute-agent.conf"
"""Of the service and of computectl."""
