"""The options of oslo.messaging and oslo.log, which read theirs from the same file themselves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from oslo_config import cfg
from oslo_log import log

from compute_agent.rpc.transport import RABBIT_DEFAULTS, set_defaults

LOG_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s [%(request_id)s %(instance_uuid)s] %(message)s"
"""The two in brackets come from `compute_agent.agent.log_context`."""

_TRANSPORT_URL = cfg.StrOpt(
    "transport_url",
    default="rabbit://",
    sample_default="rabbit://compute-agent:PASSWORD@broker.example.com:5672/compute_agent",
    help="The RabbitMQ broker; more of them are separated with commas. The last part is the virtual host: give "
    "compute-agent one of its own, because its queues have names that Nova uses too.",
)
"""oslo.messaging's own, with less to read."""

_IN_THE_SAMPLE = {
    None: ("debug", "log_file"),
    "oslo_messaging_rabbit": ("ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", *RABBIT_DEFAULTS),
}


def register(conf: cfg.ConfigOpts) -> None:
    """Register their options with our defaults."""
    log.register_options(conf)
    conf.set_default("logging_default_format_string", LOG_FORMAT)
    conf.set_default("logging_context_format_string", LOG_FORMAT)
    conf.set_default("use_stderr", True)
    set_defaults(conf)


def every_option() -> Iterator[tuple[str | None, list[cfg.Opt]]]:
    """All of them, as (group, options); None is [DEFAULT]."""
    for library in ("oslo.messaging", "oslo.log"):
        for entry_point in entry_points(group="oslo.config.opts", name=library):
            yield from entry_point.load()()


def options_for_the_sample() -> Iterator[tuple[str | None, list[cfg.Opt]]]:
    """Copies of the few that an operator may have to set, with the defaults that they have here."""
    yield None, [_TRANSPORT_URL]
    for group, options in every_option():
        wanted = [option for option in options if option.dest in _IN_THE_SAMPLE.get(group, ())]
        if group == "oslo_messaging_rabbit":
            cfg.set_defaults(wanted, **RABBIT_DEFAULTS)
        if wanted:
            yield group, wanted
