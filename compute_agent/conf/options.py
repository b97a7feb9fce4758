"""All options of compute-agent.conf."""

from __future__ import annotations

from oslo_config import cfg

from compute_agent.conf import agent, ceph, libraries, migration, network, storage, virt

SECTIONS = (agent, migration, virt, network, storage, ceph)


def register(conf: cfg.ConfigOpts) -> None:
    """Make them known to oslo.config."""
    libraries.register(conf)
    conf.register_opts(agent.DEFAULT_OPTIONS)
    for section in SECTIONS:
        conf.register_group(section.GROUP)
        conf.register_opts(section.OPTIONS, section.GROUP)


def list_opts() -> list[tuple[cfg.OptGroup | str | None, list[cfg.Opt]]]:
    """For oslo-config-generator: ours, and those of the libraries that an operator may have to set."""
    ours = [(section.GROUP, section.OPTIONS) for section in SECTIONS]
    return [(None, agent.DEFAULT_OPTIONS), *ours, *libraries.options_for_the_sample()]


def known_options() -> dict[str, dict[str, cfg.Opt]]:
    """All options by section and name, also by the names that a library calls deprecated."""
    known: dict[str, dict[str, cfg.Opt]] = {}
    ours = [(section.GROUP.name, section.OPTIONS) for section in SECTIONS]
    for group, options in [(None, agent.DEFAULT_OPTIONS), *ours, *libraries.every_option()]:
        for option in options:
            known.setdefault(str(group or "DEFAULT"), {})[option.dest] = option
            for old in option.deprecated_opts:
                known.setdefault(str(old.group or group or "DEFAULT"), {})[old.name.replace("-", "_")] = option
    return known
