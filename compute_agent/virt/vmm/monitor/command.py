"""What a monitor can be asked for: typed commands, checked before they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from compute_agent.errors import MonitorError

A = TypeVar("A", bound="Arguments")


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-")):
    """Base of what commands take, named as QEMU names it; an unknown name is refused."""


class Nothing(Arguments, frozen=True):
    """For commands that take no arguments."""


class Files(Protocol):
    """Descriptors that the client has handed over."""

    def take(self, name: str) -> int:
        """One that ``getfd`` has named; it is the caller's from now on.

        :raises MonitorError: there is none.
        """


class Command(Generic[A]):
    """`run` gets the arguments and the client's descriptors; what it returns is the answer.

    It raises MonitorError to refuse, and must not wait for anything: all clients wait for it.
    """

    def __init__(self, arguments: type[A], run: Callable[[A, Files], object]) -> None:
        self._decoder = msgspec.json.Decoder(arguments)
        self._run = run

    def __call__(self, arguments: bytes, files: Files) -> object:
        """:raises MonitorError: the arguments do not fit, or the command refuses."""
        try:
            decoded = self._decoder.decode(arguments)
        except msgspec.ValidationError as error:
            raise MonitorError(str(error)) from error
        return self._run(decoded, files)


Commands = Mapping[str, Command[Any]]


class Getfd(Arguments, frozen=True):
    """Of ``getfd`` and ``closefd``."""

    fdname: str
