"""This node, examined with the configuration of its agent."""

from __future__ import annotations

from pathlib import Path

from compute_agent.conf.examining import Examined
from compute_agent.conf.examining import examine as examine_file
from compute_agent.doctor.checks import NodeSettings, checks_of
from compute_agent.doctor.examination import examine
from compute_agent.doctor.finding import Finding, failure, ok
from compute_agent.errors import InvalidConfiguration


def examine_node(config_file: Path) -> list[Finding]:
    """All findings; what cannot be used of the file is a failure, and the defaults are examined in its place."""
    examined = examine_file(config_file)
    node = NodeSettings(
        state_dir=examined.configuration.agent.state_dir,
        virt=examined.configuration.virt,
        network=examined.configuration.network,
        storage=examined.configuration.storage,
        broker=examined.broker,
        post_copy=examined.configuration.agent.migration.on_timeout == "post-copy",
    )
    return about_the_file(config_file, examined) + examine(checks_of(node))


def about_the_file(config_file: Path, examined: Examined) -> list[Finding]:
    """A line a mistake, or one that there is none."""
    if not examined.mistakes:
        return [ok("configuration", f"{config_file}: this is host {examined.configuration.agent.host}")]
    return [_describe(config_file, mistake) for mistake in examined.mistakes]


def _describe(config_file: Path, mistake: InvalidConfiguration) -> Finding:
    if mistake.field == "--config-file":
        remedy = f"write {config_file}, from the sample etc/compute-agent.conf; or name another with --config-file"
        return failure("configuration", f"{config_file}: {mistake.reason}; the defaults are examined", remedy)
    return failure("configuration", str(mistake), f"correct {mistake.field} in {config_file}")
