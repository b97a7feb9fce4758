"""Commands inside a tiny guest, over its serial console."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from tests.functional.guests import Guests

_END = re.compile(r"\r?\nend (\d+)\r?\n")


def run_inside(guests: Guests, instance_uuid: str, command: str, seconds: float = 30.0) -> str:
    """What the command printed; it has to succeed."""
    where = guests.client.get_serial_console(instance_uuid)
    return run_over(Path(str(where["path"])), command, seconds)


def run_over(path: Path, command: str, seconds: float) -> str:
    """The same over a console's socket, whoever runs the guest."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        console.settimeout(seconds)
        console.connect(str(path))
        # The quotes keep the terminal's echo from looking like output.
        console.sendall(f"\necho be''gin; {command}; s=$?; echo; echo e''nd $s\n".encode())
        said = ""
        while (end := _END.search(said)) is None:
            chunk = console.recv(65536)
            assert chunk, f"the console was closed after {said!r}"
            said += chunk.decode(errors="replace")
    assert end[1] == "0", said
    return said[: end.start()].partition("begin\r\n")[2].replace("\r\n", "\n").strip()
