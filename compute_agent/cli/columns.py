"""Values that read well in a table and stay plain data in JSON, YAML and CSV."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from cliff.columns import FormattableColumn


class Perhaps(FormattableColumn[object]):
    """A value that may be missing: ``-`` for a person, null for a machine."""

    def human_readable(self) -> str:
        """The value, or ``-``."""
        return "-" if self._value is None else str(self._value)


class Moment(FormattableColumn[float | None]):
    """Seconds since the epoch; local time for a person."""

    def human_readable(self) -> str:
        """``2026-01-31 23:59:59``, or ``-``."""
        if self._value is None:
            return "-"
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._value))


class Size(FormattableColumn[int]):
    """Bytes; GiB or MiB for a person."""

    def human_readable(self) -> str:
        """``1.5 GiB``, or ``12.3 MiB``."""
        if self._value < 2**30:
            return f"{self._value / 2**20:.1f} MiB"
        return f"{self._value / 2**30:.1f} GiB"


class Short(FormattableColumn[str]):
    """A long value of which a person needs only the start."""

    def human_readable(self) -> str:
        """``sha256:0123456789ab``."""
        return self._value[:19]


class Usage(FormattableColumn[Mapping[str, int]]):
    """Named sizes, in bytes, and numbers; an age in seconds."""

    _NUMBERS = ("count", "in_use")

    def human_readable(self) -> str:
        """``free: 1.5 GiB`` lines."""
        return "\n".join(f"{name}: {self._show(name, value)}" for name, value in self._value.items())

    def _show(self, name: str, value: int) -> str:
        if name == "limit" and value == 0:
            return "-"
        if name == "age":
            return f"{value} s"
        return str(value) if name in self._NUMBERS else Size(value).human_readable()


class Nested(FormattableColumn[object]):
    """Plain JSON data; for a person one line an entry, and in it what is deeper, if it says anything."""

    def human_readable(self) -> str:
        """``name: value`` or ``value`` lines."""
        if isinstance(self._value, Mapping):
            return "\n".join(f"{name}: {_inline(value)}" for name, value in self._value.items())
        if isinstance(self._value, Sequence) and not isinstance(self._value, str):
            return "\n".join(_inline(value) for value in self._value)
        return _inline(self._value)


def present(value: object) -> object:
    """A value of unknown shape, ready for a cell."""
    if value is None:
        return Perhaps(value)
    return Nested(value) if isinstance(value, Mapping | list | tuple) else value


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_inline(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list | tuple):
        return ", ".join(_inline(inner) for inner in value) or "-"
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
