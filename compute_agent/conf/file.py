"""compute-agent.conf, looked at before oslo.config reads it.

oslo.config ignores options that it does not know, and finds a bad value when it is first used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from oslo_config import cfg

from compute_agent.conf.options import known_options
from compute_agent.errors import InvalidConfiguration, one_line

_SECRET = {"transport_url"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as it stands in the file."""

    section: str
    name: str
    value: str

    @property
    def refers(self) -> bool:
        """The value has parts that other options fill in."""
        return "$" in self.value

    def refused(self, reason: str) -> InvalidConfiguration:
        """The error that says so; without the value, where that is a secret."""
        secret = self.name in _SECRET or "password" in self.name
        value = "a value that is not shown" if secret else self.value
        return InvalidConfiguration(one_line(f"{self.section}.{self.name}"), value, one_line(reason))


def read(path: str) -> list[Entry]:
    """All entries of the file.

    :raises InvalidConfiguration: the file cannot be read.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except OSError as error:
        raise InvalidConfiguration("--config-file", path, error.strerror or str(error)) from None
    except (cfg.ParseError, UnicodeDecodeError) as error:
        raise InvalidConfiguration("--config-file", path, str(error)) from None
    return [
        Entry(section if section == "DEFAULT" else section.lower(), name.replace("-", "_"), value)
        for section, found in sections.items()
        for name, values in found.items()
        for value in values
    ]


def check(entries: list[Entry]) -> None:
    """Refuse what no option is, and what no option may be.

    :raises InvalidConfiguration: names the option, its value and what is wrong.
    """
    for _, mistake in mistakes(entries):
        raise mistake


def check_references(entries: list[Entry], conf: cfg.ConfigOpts) -> None:
    """Refuse values that refer to what is not there, once `conf` has read the file.

    :raises InvalidConfiguration: names the option, its value and what is wrong.
    """
    for _, mistake in mistaken_references(entries, conf):
        raise mistake


def mistakes(entries: list[Entry]) -> Iterator[tuple[Entry, InvalidConfiguration]]:
    """All that no option is, and that no option may be."""
    known = known_options()
    for entry in entries:
        if entry.section not in known:
            yield entry, entry.refused(f"there is no section [{entry.section}]")
        elif entry.name not in known[entry.section]:
            yield entry, entry.refused("there is no such option")
        elif not entry.refers:
            try:
                known[entry.section][entry.name].type(entry.value)
            except ValueError as error:
                yield entry, entry.refused(str(error))


def mistaken_references(entries: list[Entry], conf: cfg.ConfigOpts) -> Iterator[tuple[Entry, InvalidConfiguration]]:
    """All that refer to what is not there, once `conf` has read the file."""
    for entry in entries:
        if entry.refers:
            try:
                _ = conf[entry.name] if entry.section == "DEFAULT" else conf[entry.section][entry.name]
            except (cfg.Error, ValueError) as error:
                yield entry, entry.refused(str(error))
            except RecursionError:
                yield entry, entry.refused("refers to itself")
