"""What the services of a sandbox have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """A context manager: it runs inside, and nothing of it afterwards."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Return when it serves. Raises SandboxError if it does not; no process is left."""

    @abstractmethod
    def stop(self) -> None:
        """End it in good order. Nothing happens where it does not run."""
