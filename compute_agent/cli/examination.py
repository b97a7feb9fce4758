"""This node, examined with the configuration of its agent."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from compute_agent.conf.broker import broker_settings
from compute_agent.conf.examining import examine as examine_file
from compute_agent.doctor.checks import NodeSettings, checks_of
from compute_agent.doctor.examination import examine
from compute_agent.doctor.finding import Finding, failure, ok
from compute_agent.doctor.settings import BrokerSettings
from compute_agent.errors import InvalidConfiguration


def examine_node(config_file: Path) -> list[Finding]:
    """All findings; what cannot be read of the file is a failure, and the defaults are examined in its place."""
    conf = cfg.ConfigOpts()
    configuration, mistakes = examine_file(config_file, conf)
    broker = _broker(conf, mistakes)
    node = NodeSettings(
        state_dir=configuration.agent.state_dir,
        virt=configuration.virt,
        network=configuration.network,
        storage=configuration.storage,
        broker=broker,
    )
    about_the_file = [_describe(config_file, mistake) for mistake in mistakes]
    if not mistakes:
        about_the_file = [ok("configuration", f"{config_file}: this is host {configuration.agent.host}")]
    return about_the_file + examine(checks_of(node))


def _broker(conf: cfg.ConfigOpts, mistakes: list[InvalidConfiguration]) -> BrokerSettings | None:
    try:
        return broker_settings(conf)
    except InvalidConfiguration as mistake:
        mistakes.append(mistake)
        return None


def _describe(config_file: Path, mistake: InvalidConfiguration) -> Finding:
    if mistake.field == "--config-file":
        remedy = f"write {config_file}, from the sample etc/compute-agent.conf; or name another with --config-file"
        return failure("configuration", f"{config_file}: {mistake.reason}; the defaults are examined", remedy)
    return failure("configuration", f"{mistake}; the default is examined", f"correct {mistake.field} in {config_file}")
