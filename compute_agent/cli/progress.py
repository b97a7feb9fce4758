"""How an operation's progress looks while somebody waits: a bar on a terminal, lines in a log, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from compute_agent.cli.step_details import in_words
from compute_agent.instance.view import OperationState, OperationView, StepState


class ProgressDisplay(Protocol):
    """Shows each view it is given, from entering to leaving the context."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, view: OperationView) -> None:
        """The operation stands there now."""

    def remark(self, text: str) -> None:
        """Something else that explains the wait."""


class _WithLineBelow(Progress):
    """Beside the bar there is no room for all that is known of a step, on 80 columns."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below:
            yield Text(f"  {self.below}", overflow="ellipsis", no_wrap=True)


class Bar:
    """One line that is drawn anew, and one for what is known of the step; gone when the wait is over."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = _WithLineBelow(
            SpinnerColumn(),
            TextColumn("{task.fields[operation]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task("", total=100, operation="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, view: OperationView) -> None:
        """Move the bar."""
        self._progress.below = "" if view.details is None else in_words(view.details)
        self._progress.update(
            self._task, completed=view.progress, description=_current_step(view), operation=view.operation
        )

    def remark(self, text: str) -> None:
        """Shown instead of the step, until the operation is seen again."""
        self._progress.update(self._task, description=text)


class Lines:
    """One line for each change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, view: OperationView) -> None:
        """Write a line, if the operation has come on."""
        self._write(news_of(view), f"{view.operation} {view.progress:3}% {what_is_done(view)}")

    def remark(self, text: str) -> None:
        """Write it, if it is new."""
        self._write((text,), text)

    def _write(self, news: tuple[object, ...], text: str) -> None:
        if news != self._last:
            self._last = news
            self._stream.write(text + "\n")
            self._stream.flush()


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, view: OperationView) -> None:
        """Nothing."""

    def remark(self, text: str) -> None:
        """Nothing."""


def progress_display(stream: TextIO, *, quiet: bool) -> ProgressDisplay:
    """What suits the stream."""
    if quiet:
        return Silence()
    return Bar(stream) if stream.isatty() else Lines(stream)


def news_of(view: OperationView) -> tuple[object, ...]:
    """What has to be another for a log to have one more line: what is left, and for how long, is so each second."""
    stage = None if view.details is None else (view.details.stage, view.details.waiting_for)
    return view.progress, _current_step(view), stage


def what_is_done(view: OperationView) -> str:
    """The step that the operation is in, as the agent calls it, and what is known of it."""
    step = _current_step(view)
    return step if view.details is None else f"{step}: {in_words(view.details)}"


def _current_step(view: OperationView) -> str:
    if view.state in (OperationState.ACCEPTED, OperationState.DONE, OperationState.FAILED):
        return str(view.state)
    undone = [step.name for step in view.steps if step.state is StepState.UNDONE]
    if undone:
        return f"undoing, {undone[0]} is undone"
    begun = [step.name for step in view.steps if step.state is StepState.INTENDED]
    return begun[-1] if begun else str(view.state)
