"""The doctor's findings as lines for a person."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from cliff.formatters.base import ListFormatter

_WIDTHS = {"status": 8, "check": 22}
"""In characters; what is longer has its place anyway."""


class Report(ListFormatter):
    """A line a finding, and below it what mends it."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """No options of its own."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Only the chosen columns."""
        for row in data:
            values = dict(zip(column_names, row, strict=True))
            remedy = values.pop("remedy", "")
            words = [str(value).ljust(_WIDTHS.get(name, 0)) for name, value in values.items()]
            stdout.write(" ".join(words).rstrip() + "\n")
            if remedy:
                stdout.write(f"{'':{sum(_WIDTHS.values()) + 1}} → {remedy}\n")
