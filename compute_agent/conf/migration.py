"""Section [migration]."""

from __future__ import annotations

from oslo_config import cfg

from compute_agent.agent.settings import MigrationSettings
from compute_agent.conf.defaults import defaults_of

_DEFAULTS = defaults_of(MigrationSettings)

GROUP = cfg.OptGroup("migration", help="Guests that move to other hosts while they run.")


def _seconds(name: str, least: float, text: str) -> cfg.FloatOpt:
    return cfg.FloatOpt(name, default=_DEFAULTS[name], min=least, max=7 * 86400, help=f"Seconds {text}")


def _port(name: str, text: str) -> cfg.IntOpt:
    return cfg.IntOpt(name, default=_DEFAULTS[name], min=1024, max=65535, help=text)


OPTIONS = [
    cfg.StrOpt(
        "address",
        default=_DEFAULTS["address"],
        max_length=64,
        sample_default="<what this host's name resolves to>",
        help="This host's address on the network that guests' memory and disks are carried over.",
    ),
    cfg.BoolOpt(
        "encrypt",
        default=_DEFAULTS["encrypt"],
        help="Whether they are encrypted on their way (TLS, with a key of its own for each migration, which the agents "
        "agree on over the queue). Else choose an address that only compute hosts can reach.",
    ),
    _port("first_port", "The first of the TCP ports that incoming guests are waited for on, two for each."),
    _port("last_port", "The last of them."),
    cfg.IntOpt(
        "max_concurrent",
        default=_DEFAULTS["max_concurrent"],
        min=1,
        max=1000,
        help="How many guests leave this host at once, running or stopped; others wait. Guests that come "
        "in do not count. More of them at once are not sooner there where one alone fills the network, or a processor "
        "with its encryption.",
    ),
    cfg.IntOpt(
        "max_bandwidth",
        default=_DEFAULTS["max_bandwidth"],
        min=0,
        max=1_000_000,
        help="MiB a second for the memory of a guest, and for each of its disks; 0: as fast as it goes.",
    ),
    cfg.StrOpt(
        "compression",
        default=_DEFAULTS["compression"],
        choices=[
            ("none", "memory is carried as it is"),
            (
                "xbzrle",
                "of a page that its guest has written to again, what has changed: for that QEMU keeps the last 64 MiB "
                "that it has sent. Guests of vmm are carried as they are",
            ),
        ],
        help="What is done so that a guest gets there that writes faster than the network carries. It takes processor "
        "time, and helps where a guest changes little of the memory that it writes to.",
    ),
    _seconds("downtime", 0.001, "that a guest may stand still for the last of its memory, at first."),
    _seconds("longest_downtime", 0.001, "that it may stand still in the end, where it writes too fast."),
    _seconds("timeout", 1, "that its memory may take; in the second half of them it is slowed down."),
    cfg.StrOpt(
        "on_timeout",
        default=_DEFAULTS["on_timeout"],
        choices=[
            ("abort", "the guest stays where it is"),
            ("force", "the guest is paused until all of it is there"),
            (
                "post-copy",
                "the guest goes on there, and the rest of its memory follows as it is needed: it is not slowed down by "
                "what it writes, and lost if either host dies before all of it is there. So it is with force-complete. "
                "The destination needs vm.unprivileged_userfaultfd = 1; guests of vmm are refused",
            ),
        ],
        help="What happens when that time is over.",
    ),
    _seconds("prepare_timeout", 1, "that the destination may take to make disks; it may have to fetch images."),
]


def migration_settings(conf: cfg.ConfigOpts) -> MigrationSettings:
    """What the agent is told about it."""
    return MigrationSettings(**{name: conf.migration[name] for name in _DEFAULTS})
