"""How an operation's progress looks while somebody waits: a bar on a terminal, lines in a log, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

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


class Bar:
    """One line that is drawn anew, gone when the wait is over."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
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
        self._progress.update(
            self._task, completed=view.progress, description=current_step(view), operation=view.operation
        )

    def remark(self, text: str) -> None:
        """Shown instead of the step, until the operation is seen again."""
        self._progress.update(self._task, description=text)


class Lines:
    """One line for each change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def show(self, view: OperationView) -> None:
        """Write a line, if it says anything new."""
        self.remark(f"{view.operation} {view.progress:3}% {current_step(view)}")

    def remark(self, text: str) -> None:
        """Write it, if it is new."""
        if text != self._last:
            self._last = text
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


def current_step(view: OperationView) -> str:
    """What the operation is doing, in words of the agent's."""
    if view.state in (OperationState.ACCEPTED, OperationState.DONE, OperationState.FAILED):
        return str(view.state)
    undone = [step.name for step in view.steps if step.state is StepState.UNDONE]
    if undone:
        return f"undoing, {undone[0]} is undone"
    begun = [step.name for step in view.steps if step.state is StepState.INTENDED]
    return begun[-1] if begun else str(view.state)
