"""One client of a monitor, from the greeting until it hangs up.

Source: QEMU's docs/interop/qmp-spec.txt.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator, Mapping

import msgspec

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.monitor.command import Command, Commands, Getfd, Nothing
from compute_agent.virt.vmm.monitor.framing import Framing, TooLong
from compute_agent.virt.vmm.process_log import say_failed

_CHUNK = 65536
_MOST_FILES = 16
"""Descriptors that a client may have handed over and not named; the kernel takes the rest back."""
_MOST_UNREAD = 4 * 1024 * 1024
"""Bytes that wait for a client which does not read, before it is hung up on."""
_BEFORE_CAPABILITIES = "Expecting capabilities negotiation with 'qmp_capabilities'"


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    execute: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_CALL = msgspec.json.Decoder(_Call)


class Session:
    """Answers what has been read. Whoever owns it tells it when its socket can be read or written."""

    def __init__(self, client: socket.socket, commands: Commands, greeting: Mapping[str, object]) -> None:
        self.client = client
        client.setblocking(False)
        own: Commands = {
            "qmp_capabilities": Command(_Capabilities, self._negotiate),
            "getfd": Command(Getfd, self._name_file),
            "closefd": Command(Getfd, lambda named, _: os.close(self.take(named.fdname))),
            "query-commands": Command(Nothing, lambda *_: [{"name": name} for name in sorted(self._commands)]),
        }
        self._commands = {**commands, **own}
        self._framing = Framing()
        self._is_ready = False
        self._files: list[int] = []
        self._named: dict[str, int] = {}
        self._unsent = bytearray()
        self._send({"QMP": greeting})

    @property
    def wants_to_write(self) -> bool:
        """There is something that the socket did not take yet."""
        return bool(self._unsent)

    def read(self) -> bool:
        """Take and answer what has arrived; False: the client is to be closed."""
        try:
            data, ancillary, _, _ = self.client.recvmsg(_CHUNK, socket.CMSG_SPACE(4 * _MOST_FILES))
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._files += _descriptors(ancillary)
        try:
            for text in self._framing.feed(data):
                self._serve(text)
        except TooLong:
            return False
        return bool(data) and len(self._unsent) < _MOST_UNREAD and len(self._files) <= _MOST_FILES

    def write(self) -> bool:
        """Send what waits, as far as it goes; False: the client is to be closed."""
        try:
            while self._unsent:
                del self._unsent[: self.client.send(self._unsent)]
        except BlockingIOError:
            return len(self._unsent) < _MOST_UNREAD
        except OSError:
            return False
        return True

    def tell(self, event: Mapping[str, object]) -> None:
        """Send an event, to a client that has come so far."""
        if self._is_ready:
            self._send(event)

    def take(self, name: str) -> int:
        """See `compute_agent.virt.vmm.monitor.command.Files`."""
        try:
            return self._named.pop(name)
        except KeyError:
            raise MonitorError(f"File descriptor named '{name}' has not been found") from None

    def close(self) -> None:
        """Hang up; descriptors that nobody took go."""
        for fd in (*self._files, *self._named.values()):
            os.close(fd)
        self.client.close()

    def _serve(self, text: bytes) -> None:
        try:
            text.decode()  # msgspec passes on unread what nobody looks into, such as the id
            call = _CALL.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._send(_refusal("GenericError", f"Invalid command: {error}"))
            return
        answer = self._answer(call)
        if call.id is not msgspec.UNSET:
            answer["id"] = call.id
        self._send(answer)

    def _answer(self, call: _Call) -> dict[str, object]:
        command = self._commands.get(call.execute)
        if command is None or self._is_ready == (call.execute == "qmp_capabilities"):
            reason = "has not been found" if self._is_ready else f"may not be called: {_BEFORE_CAPABILITIES}"
            return _refusal("CommandNotFound", f"The command {call.execute} {reason}")
        try:
            result = command(bytes(call.arguments), self)
        except MonitorError as error:
            return _refusal("GenericError", str(error))
        except Exception as error:  # noqa: BLE001  the request's edge: whoever asks next is to be answered, too
            say_failed(f"The command {call.execute} has failed", error)
            return _refusal("GenericError", f"internal error: {type(error).__name__}: {error}")
        return {"return": {} if result is None else result}

    def _negotiate(self, _: object, __: object) -> None:
        self._is_ready = True

    def _name_file(self, named: Getfd, _: object) -> None:
        if not self._files:
            raise MonitorError("No file descriptor supplied via SCM_RIGHTS")
        if named.fdname in self._named:
            os.close(self._named.pop(named.fdname))
        self._named[named.fdname] = self._files.pop(0)

    def _send(self, message: Mapping[str, object]) -> None:
        self._unsent += msgspec.json.encode(message) + b"\r\n"


class _Capabilities(Nothing, frozen=True):
    enable: tuple[str, ...] = ()


def _refusal(kind: str, description: str) -> dict[str, object]:
    return {"error": {"class": kind, "desc": description}}


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            for fd in fds:
                os.set_inheritable(fd, False)
                yield fd
