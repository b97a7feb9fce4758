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
_MOST_UNSENT = 64 * 1024
"""Bytes typed that a guest did not take; what is typed beyond is lost, as on a real line."""


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
    unsent = b""
    guest = console.fileno()
    with _raw(keyboard):
        while True:
            readable, writable, _ = select.select([keyboard, guest], [guest] if unsent else [], [])
            if keyboard in readable:
                typed = os.read(keyboard, _CHUNK)
                if not typed or ESCAPE in typed:
                    return True
                unsent = (unsent + typed)[:_MOST_UNSENT]
            try:
                if writable:
                    unsent = unsent[console.send(unsent) :]
                written = console.recv(_CHUNK) if guest in readable else None
            except ConnectionError:
                return False
            if written == b"":
                return False
            _write(screen, written or b"")


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too."""
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
