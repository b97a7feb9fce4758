"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Guests run, but not as well, as safely or as surely as they could."""
    FAILURE = "failure"
    """The agent does not work, or some of its guests do not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. The texts are for a person, one line each."""

    check: str
    status: Status
    found: str
    remedy: str = ""
    """The command or the setting that mends it; empty where all is well."""


def ok(check: str, found: str) -> Finding:
    """Nothing to be done."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Guests run, but something should be better."""
    return Finding(check, Status.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(check, Status.FAILURE, found, remedy)
