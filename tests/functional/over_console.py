"""A command given to a shell on a serial console. Imports nothing that takes long in an emulated host."""

from __future__ import annotations

import re
import socket
from pathlib import Path

_END = re.compile(r"\r?\nend (\d+)\r?\n")


def run_over(path: Path, command: str, seconds: float) -> str:
    """What the command printed; it has to succeed. `path`: of the console's socket."""
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
