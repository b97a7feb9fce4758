"""[DEFAULT] host, and section [agent]."""

from __future__ import annotations

import socket
from pathlib import Path

from oslo_config import cfg

from compute_agent.agent.settings import AgentSettings
from compute_agent.conf.defaults import defaults_of
from compute_agent.conf.migration import migration_settings

_DEFAULTS = {name: value for name, value in defaults_of(AgentSettings).items() if name != "migration"}

DEFAULT_OPTIONS = [
    cfg.StrOpt(
        "host",
        regex=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z",
        sample_default="<this machine's host name>",
        help="The name that controllers know this compute host by. It must be unique, and stay the same as long as "
        "there are instances on the host.",
    ),
]

GROUP = cfg.OptGroup("agent", help="The agent itself.")

OPTIONS = [
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/compute-agent",
        help="What must survive a reboot of the host: the journal and, where they are not placed elsewhere, disks, "
        "images and the guests' logs. An absolute path on a local file system; one agent only may use it.",
    ),
    cfg.StrOpt(
        "run_dir",
        default="/run/compute-agent",
        help="What need not survive a reboot of the host. An absolute path, short enough for Unix sockets below it.",
    ),
    cfg.IntOpt(
        "workers",
        default=_DEFAULTS["workers"],
        min=1,
        max=1024,
        help="Operations on different instances that may run at once.",
    ),
    cfg.FloatOpt(
        "shutdown_timeout",
        default=_DEFAULTS["shutdown_timeout"],
        min=0,
        max=86400,
        help="Seconds that a guest may take to shut down before it is forced off, where the request does not say.",
    ),
    cfg.FloatOpt(
        "cpu_allocation_ratio",
        default=_DEFAULTS["cpu_allocation_ratio"],
        min=1,
        max=64,
        help="vCPUs that one instance may have, for each CPU of this host. With more than 1 a guest may compete with "
        "itself; what all instances have together is the scheduler's business.",
    ),
    cfg.BoolOpt(
        "start_guests_at_boot",
        default=_DEFAULTS["start_guests_at_boot"],
        help="Whether guests that ran when the host went down are started when it is up again; else they are stopped.",
    ),
    cfg.FloatOpt(
        "reconcile_interval",
        default=_DEFAULTS["reconcile_interval"],
        min=1,
        max=86400,
        help="Seconds between two comparisons of what should be on this host with what is.",
    ),
    cfg.IntOpt(
        "operation_history",
        default=_DEFAULTS["operation_history"],
        min=100,
        max=10_000_000,
        help="Finished operations that the journal remembers. A request that is repeated after its operation was "
        "forgotten is carried out again.",
    ),
]


def agent_settings(conf: cfg.ConfigOpts) -> AgentSettings:
    """What the agent is told."""
    return AgentSettings(
        host=conf.host or socket.gethostname(),
        state_dir=Path(conf.agent.state_dir),
        migration=migration_settings(conf),
        **{name: conf.agent[name] for name in _DEFAULTS},
    )
