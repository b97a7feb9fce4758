"""What a QEMU says over its monitor, while no agent is connected to it."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SECONDS = 10.0


def ask(monitor: Path, *commands: str | tuple[str, Mapping[str, object]]) -> list[Any]:
    """Its answers; a command may come with arguments.

    :raises KeyError: it refused one.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(monitor))
        with connection.makefile("rw") as lines:
            _answers(lines, ["qmp_capabilities"])
            return _answers(lines, commands)


def _answers(lines: Any, commands: Sequence[str | tuple[str, Mapping[str, object]]]) -> list[Any]:
    for number, command in enumerate(commands):
        name, arguments = (command, {}) if isinstance(command, str) else command
        lines.write(json.dumps({"execute": name, "arguments": arguments, "id": number}) + "\n")
    lines.flush()
    answers: list[Any] = []
    while len(answers) < len(commands):
        message = json.loads(lines.readline())
        if "id" in message:  # events, and the greeting, have none
            answers.append(message["return"])
    return answers
