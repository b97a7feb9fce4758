"""Tells what happens, with the seconds since the beginning."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.text import Text


class Narrator:
    """Prints to the terminal, or plainly where there is none. May be used by many threads at once."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._console = Console(highlight=False, soft_wrap=True)
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def chapter(self, title: str) -> None:
        """Something new begins."""
        self._print(Text(f"\n{title}", style="bold"))

    def say(self, text: str) -> None:
        """One thing that happened."""
        self._print(Text(f"{self.seconds:7.1f} s  ", style="dim") + Text(text))

    def quote(self, text: str) -> None:
        """What a guest or a program printed, line by line."""
        for line in text.splitlines():
            self._print(Text(f"{'':9}  │ {line}", style="cyan"))

    def _print(self, text: Text) -> None:
        with self._lock:
            self._console.print(text)
