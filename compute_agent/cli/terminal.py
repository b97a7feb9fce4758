"""A person's terminal joined to a guest's serial console."""

from __future__ import annotations

import os
import re
import select
import socket
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ESCAPE = b"\x1d"
"""Ctrl-]"""

_CONNECT_SECONDS = 5.0
_CHUNK = 4096
_SURE_TO_FIT = 512
"""Bytes that a writable terminal takes without blocking."""
_MOST_WAITING = 64 * 1024
"""Bytes that either side did not take; what comes beyond is lost, as on a real line."""


_UNWANTED = re.compile(r"(\x1b\[[0-9;]*m)|\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """What a guest wrote, without what could make the reader's terminal do things, such as type; colours stay."""
    return _UNWANTED.sub(lambda found: found[1] or "", text)


def connect_console(path: Path) -> socket.socket:
    """The guest's end of the line, not blocking.

    :raises OSError: it is not there, or does not answer within 5 s.
    """
    console = socket.socket(socket.AF_UNIX)
    try:
        console.settimeout(_CONNECT_SECONDS)
        console.connect(str(path))
    except OSError:
        console.close()
        raise
    console.setblocking(False)
    return console


def converse(console: socket.socket, keyboard: int, screen: int) -> bool:
    """Pass on what is typed and what the guest writes: True when the person left, False when the guest did."""
    with _raw(keyboard):
        return _Conversation(console, keyboard, screen).run()


class _Conversation:
    """The guest is always read, also when the screen takes nothing (a terminal that hangs): it would be held up."""

    def __init__(self, console: socket.socket, keyboard: int, screen: int) -> None:
        self._console = console
        self._keyboard = keyboard
        self._screen = screen
        self._typed = b""
        self._written = b""

    def run(self) -> bool:
        guest = self._console.fileno()
        try:
            while True:
                waiting = [guest] * bool(self._typed) + [self._screen] * bool(self._written)
                readable, writable, _ = select.select([self._keyboard, guest], waiting, [])
                if self._keyboard in readable and not self._read_keyboard():
                    return True
                if guest in readable and not self._read_guest():
                    return False
                self._pass_on(writable)
        except ConnectionError:
            return False

    def _read_keyboard(self) -> bool:
        keys = os.read(self._keyboard, _CHUNK)
        self._typed = (self._typed + keys)[:_MOST_WAITING]
        return bool(keys) and ESCAPE not in keys

    def _read_guest(self) -> bool:
        output = self._console.recv(_CHUNK)
        self._written = (self._written + output)[-_MOST_WAITING:]
        return bool(output)

    def _pass_on(self, writable: list[int]) -> None:
        if self._console.fileno() in writable:
            self._typed = self._typed[self._console.send(self._typed) :]
        if self._screen in writable:
            self._written = self._written[os.write(self._screen, self._written[:_SURE_TO_FIT]) :]


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too."""
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard, termios.TCSADRAIN)  # what was typed meanwhile is kept
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
