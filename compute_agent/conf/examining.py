"""compute-agent.conf for the doctor: every mistake is found, none ends the reading, and no directory is made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from oslo_config import cfg

from compute_agent.conf import file, options
from compute_agent.conf.loading import Configuration, parse, settings_of
from compute_agent.errors import InvalidConfiguration


def examine(path: Path, conf: cfg.ConfigOpts) -> tuple[Configuration, list[InvalidConfiguration]]:
    """The settings, with the defaults in place of what cannot be used, and what that is.

    :param conf: fresh; knows all options and the file afterwards.
    """
    options.register(conf)
    try:
        entries = file.read(str(path))
    except InvalidConfiguration as mistake:
        parse([], conf, default_config_file="")
        return settings_of(conf), [mistake]
    parse([], conf, default_config_file=str(path))
    mistakes = [*_put_right(list(file.mistakes(entries)), conf)]
    mistakes += _put_right(list(file.mistaken_references(entries, conf)), conf)
    return settings_of(conf), mistakes


def _put_right(
    mistakes: list[tuple[file.Entry, InvalidConfiguration]], conf: cfg.ConfigOpts
) -> list[InvalidConfiguration]:
    known = options.known_options()
    for entry, _ in mistakes:
        option = known.get(entry.section, {}).get(entry.name)
        if option is not None:
            group = None if entry.section == "DEFAULT" else entry.section
            with suppress(cfg.NoSuchOptError, cfg.NoSuchGroupError):  # a deprecated name of another option
                conf.set_override(option.dest, option.default, group)
    return [mistake for _, mistake in mistakes]
