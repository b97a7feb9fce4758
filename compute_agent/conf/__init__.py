"""Options of compute-agent.conf, one module a section, turned into the rooms' typed settings."""
