"""How the progress of several operations at once looks: a bar for each on a terminal, lines in a log, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from compute_agent.cli.progress import news_of, what_is_done
from compute_agent.instance.view import OperationView


class ManyDisplay(Protocol):
    """Shows each view that it is given."""

    def show(self, name: str, dest: str | None, view: OperationView) -> None:
        """The operation about the guest of this name, which goes to `dest` where that is known, stands there now."""

    def remark(self, text: str) -> None:
        """Something else that explains the wait."""


class ManyBars:
    """One line for each that is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, dest: str | None, view: OperationView) -> None:
        """Move its bar; away, when it has ended."""
        if view.request_id not in self._tasks:
            self._tasks[view.request_id] = self._progress.add_task("", total=100, guest=_title(name, dest))
        task = self._tasks[view.request_id]
        ended = view.finished_at is not None
        self._progress.update(task, completed=view.progress, description=what_is_done(view), visible=not ended)

    def remark(self, text: str) -> None:
        """Above the bars."""
        self._progress.console.print(text)


class ManyLines:
    """One line for each change."""

    def __init__(self, stream: TextIO | None) -> None:
        """None: nothing is shown."""
        self._stream = stream
        self._last: dict[str, tuple[object, ...]] = {}

    def show(self, name: str, dest: str | None, view: OperationView) -> None:
        """Write a line, if the operation has come on."""
        text = f"{_title(name, dest)} {view.progress:3}% {what_is_done(view)}"
        self._write(view.request_id, news_of(view), text)

    def remark(self, text: str) -> None:
        """Write it, if it is new."""
        self._write("", (text,), text)

    def _write(self, about: str, news: tuple[object, ...], text: str) -> None:
        if self._stream is not None and self._last.get(about) != news:
            self._last[about] = news
            self._stream.write(text + "\n")
            self._stream.flush()


def _title(name: str, dest: str | None) -> str:
    return name if dest is None else f"{name} to {dest}"


@contextmanager
def display_of_many(stream: TextIO, *, quiet: bool) -> Iterator[ManyDisplay]:
    """What suits the stream."""
    if quiet or not stream.isatty():
        yield ManyLines(None if quiet else stream)
        return
    columns = (TextColumn("{task.fields[guest]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=Console(file=stream), transient=True) as progress:
        yield ManyBars(progress)
