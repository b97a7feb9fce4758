"""What is known of the step that an operation is in, for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from cliff.columns import FormattableColumn

from compute_agent.cli.columns import Size
from compute_agent.instance.view import StepDetails

_UNITS = ((2 * 3600, 3600, "h"), (120, 60, "min"))
"""Of a time: from when on, how long one is, and its name."""


class Details(FormattableColumn[StepDetails]):
    """Words for a person, plain data for a machine."""

    def human_readable(self) -> str:
        """See `in_words`."""
        return in_words(self._value)

    def machine_readable(self) -> Any:
        """As in RPC."""
        return msgspec.to_builtins(self._value)


def in_words(details: StepDetails) -> str:
    """``memory, 1.2 GiB left, about 12 s; stands still for 0.3 s``."""
    if details.waiting_for is not None:
        return f"waits for {details.waiting_for}"
    if details.stage == "turn":
        return "waits for its turn"
    still = f"; stands still for {max(details.expected_downtime, 0.1):.1f} s" if details.expected_downtime else ""
    return ", ".join(_parts(details)) + still


def _parts(details: StepDetails) -> Iterator[str]:
    yield details.stage
    if details.remaining is not None:
        yield f"{Size(details.remaining).human_readable()} left"
    elif details.percent is not None:
        yield f"{details.percent}%"
    if details.time_left is not None:
        yield f"about {_duration(details.time_left)}"


def _duration(seconds: float) -> str:
    for least, length, unit in _UNITS:
        if seconds >= least:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
