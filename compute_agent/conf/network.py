"""Section [network]."""

from __future__ import annotations

from oslo_config import cfg

from compute_agent.conf.defaults import defaults_of
from compute_agent.network.settings import NetworkSettings

_DEFAULTS = defaults_of(NetworkSettings)

GROUP = cfg.OptGroup("network", help="Ports of guests in Open vSwitch.")

OPTIONS = [
    cfg.StrOpt(
        "ovsdb_connection",
        default=_DEFAULTS["ovsdb_connection"],
        regex=r"^(unix|tcp):",
        help="Where ovsdb-server listens: unix:PATH or tcp:ADDRESS:PORT.",
    ),
    cfg.StrOpt(
        "vhost_net",
        default=_DEFAULTS["vhost_net"],
        choices=[
            ("auto", "where the host has it"),
            ("on", "always; a port without it is an error"),
            ("off", "never: QEMU itself moves the packets, slowly"),
        ],
        help="Whether the kernel's vhost-net moves the packets of guests.",
    ),
    cfg.FloatOpt(
        "plug_timeout",
        default=_DEFAULTS["plug_timeout"],
        min=1,
        max=3600,
        help="Seconds that the switch may take to forward for a new port.",
    ),
]


def network_settings(conf: cfg.ConfigOpts, host: str) -> NetworkSettings:
    """What the network room is told."""
    return NetworkSettings(host=host, **{name: conf.network[name] for name in _DEFAULTS})
