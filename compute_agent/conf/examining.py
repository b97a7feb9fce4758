"""compute-agent.conf for the doctor: every mistake is found, none ends the reading, and no directory is made."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from compute_agent.conf import file, options
from compute_agent.conf.broker import broker_settings
from compute_agent.conf.loading import Configuration, parse, settings_of
from compute_agent.doctor.settings import BrokerSettings
from compute_agent.errors import InvalidConfiguration


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file says; in place of what cannot be used, the defaults."""

    configuration: Configuration
    broker: BrokerSettings | None
    """None: the file does not name one that could be used."""
    mistakes: list[InvalidConfiguration]


def examine(path: Path) -> Examined:
    """Read the file, whatever is wrong with it."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    try:
        entries = file.read(str(path))
    except InvalidConfiguration as mistake:
        return _nothing_but(mistake)
    wrong = list(file.mistakes(entries))
    try:
        parse([], conf, default_config_file=str(path))
    except InvalidConfiguration as mistake:  # it has no way to read the rest
        return _nothing_but(*([one for _, one in wrong] or [mistake]))
    with ExitStack() as overrides:
        _set_defaults(conf, (entry for entry, _ in wrong), overrides)
        wrong_references = list(file.mistaken_references(entries, conf))
        _set_defaults(conf, (entry for entry, _ in wrong_references), overrides)
        return _read(conf, [mistake for _, mistake in wrong + wrong_references])


def _nothing_but(*mistakes: InvalidConfiguration) -> Examined:
    """Defaults in place of all that the file says."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    parse([], conf, default_config_file=None)
    return _read(conf, list(mistakes))


def _read(conf: cfg.ConfigOpts, mistakes: list[InvalidConfiguration]) -> Examined:
    try:
        settings = settings_of(conf)
    except InvalidConfiguration as mistake:  # of options that contradict each other
        return _nothing_but(*mistakes, mistake)
    try:
        return Examined(settings, broker_settings(conf), mistakes)
    except InvalidConfiguration as mistake:
        return Examined(settings, None, [*mistakes, mistake])


def _set_defaults(conf: cfg.ConfigOpts, entries: Iterable[file.Entry], overrides: ExitStack) -> None:
    """Until `overrides` ends: oslo.config keeps them where the next reader of a file would find them."""
    known = options.known_options()
    for entry in entries:
        group = None if entry.section == "DEFAULT" else entry.section
        option = known.get(entry.section, {}).get(entry.name)
        if option is not None:
            conf.set_override(option.dest, option.default, group)
            overrides.callback(conf.clear_override, option.dest, group)
