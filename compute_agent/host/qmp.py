"""QMP, as calls with a deadline: one lasting connection a process (a guest's QEMU, a block server), one loop for all.

A deadline that passes changes nothing on the wire. The command stays where it was sent, its answer is
taken when it comes, and until then the monitor counts as silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakMethod

from qemu.qmp import ConnectError, ExecuteError, Message, QMPClient, QMPError, Runstate

from compute_agent.errors import DeadlineExceeded, GuestGone, MonitorError
from compute_agent.host.processes import Process

T = TypeVar("T")
OnEvent = Callable[[Mapping[str, Any]], None]
Execute = Callable[..., Any]
"""``execute(command, arguments, fd=…, deadline=…)``; without it, a deadline of its own."""

_ATTEMPTS, _PAUSE = 4, 0.1
"""To agree with a monitor, and seconds between two of them: one that has not noticed yet that its last client died
takes the next for it.
"""
_LONGEST_LINE, _AT_ONCE, _A_SECOND = 1 << 20, 2 << 20, 256 << 10
"""Bytes of what a monitor says: in one line, in a burst, and each second in the long run."""
_LEAST = 1 << 10
"""Bytes that a line counts for, however short."""
_LOST = (QMPError, OSError, EOFError, ValueError, TypeError, LookupError, RecursionError, AssertionError)
"""How the library ends where a monitor hangs up, or says what no monitor says: what is no UTF-8, an id of objects."""
_END_SEEN_WITHIN = 1.0
"""Seconds from a dying process's closed socket to its pidfd telling of it."""


class MonitorLoop:
    """The event loop that serves every monitor, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Drop what is still waited for, and end the thread."""
        self.submit(_cancel_the_others()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _tell(on_event: WeakMethod[OnEvent], event: Mapping[str, Any]) -> None:
    """A call of its own, so that nothing of the listener's owner stays in the frame of the one that listens."""
    if (tell := on_event()) is not None:
        tell(event)


async def _hear(end: socket.socket) -> None:
    """Wait for QEMU's first byte: one that dies before resets the connection, which the library takes for its bug."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(end, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(end)
    if not end.recv(1, socket.MSG_PEEK):
        raise EOFError("QEMU hung up")


class _Listener(QMPClient):
    """Hears no more than a monitor has reason to say: one that raves would take the time of all others' monitors.

    What it says beyond that waits in the socket, and so does its process.
    """

    def __init__(self) -> None:
        super().__init__(readbuflen=_LONGEST_LINE)
        self._allowed, self._counted_at = float(_AT_ONCE), 0.0

    def _cb_inbound(self, msg: Message) -> Message:
        """The library makes a text of each message for its log, also where nobody reads that."""
        return super()._cb_inbound(msg) if self._is_logged() else msg

    def _cb_outbound(self, msg: Message) -> Message:
        return super()._cb_outbound(msg) if self._is_logged() else msg

    def _is_logged(self) -> bool:
        return self.logger.isEnabledFor(logging.DEBUG)

    async def _readline(self) -> bytes:
        line: bytes = await super()._readline()
        await asyncio.sleep(0)  # what has come already is read without a pause, and others have their turn
        now = asyncio.get_running_loop().time()
        self._allowed = min(_AT_ONCE, self._allowed + (now - self._counted_at) * _A_SECOND)
        self._counted_at = now
        self._allowed -= max(len(line), _LEAST)
        if self._allowed < 0:
            await asyncio.sleep(-self._allowed / _A_SECOND)
        return line


class _Connection:
    """One connection, from QEMU's greeting until either side closes it."""

    def __init__(self, client: QMPClient, end: socket.socket, on_event: WeakMethod[OnEvent]) -> None:
        self.client = client
        self._socket = end
        self._listening = asyncio.create_task(self._listen(on_event))

    @classmethod
    async def open(cls, path: Path, on_event: WeakMethod[OnEvent]) -> _Connection:
        client, end = _Listener(), socket.socket(socket.AF_UNIX)
        try:
            end.setblocking(False)
            end.connect(bytes(path))
            await _hear(end)
            await client.connect(end)
        except BaseException:
            end.close()
            raise
        return cls(client, end, on_event)

    @property
    def is_open(self) -> bool:
        return bool(self.client.runstate == Runstate.RUNNING)

    async def close(self) -> None:
        """Even where QEMU reads nothing: its end is shut down, or the library would wait to send the rest.

        Where QEMU hangs up at the same time, the library disconnects too, and takes that for its own bug.
        """
        self._listening.cancel()
        with contextlib.suppress(*_LOST):
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            await self.client.disconnect()

    async def _listen(self, on_event: WeakMethod[OnEvent]) -> None:
        async for event in self.client.events:
            _tell(on_event, event)


class Monitor:
    """One process's monitor: connected at its first use, and again after the connection was lost.

    `on_event`, a method, is called in the loop's thread and must not wait for anything. It is held weakly: what
    asyncio keeps of a connection that broke would keep its owner with it.
    """

    def __init__(self, loop: MonitorLoop, path: Path, process: Process, on_event: OnEvent) -> None:
        self._loop = loop
        self._path = path
        self._process = process
        self._on_event = WeakMethod(on_event)
        self._opening: asyncio.Task[_Connection] | None = None
        self._unanswered: set[Future[Any]] = set()

    @property
    def is_silent(self) -> bool:
        """The deadline of a command has passed, and its answer has not come yet."""
        return bool(self._unanswered)

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, deadline: float, fd: int | None = None
    ) -> Any:
        """What QEMU returns for `command`, within `deadline` seconds; `fd` goes before it, for ``getfd``.

        :raises MonitorError: QEMU refused.
        :raises GuestGone: its process has ended.
        :raises DeadlineExceeded: no answer in time, or the connection was lost.
        """
        passed = None if fd is None else os.dup(fd)
        future = self._loop.submit(self._execute(command, arguments or {}, passed, deadline))
        try:
            return future.result(deadline)
        except TimeoutError:
            self._unanswered.add(future)
            future.add_done_callback(self._unanswered.discard)
            raise DeadlineExceeded(f"{command}: the monitor did not answer within {deadline:g} s") from None
        except ExecuteError as error:
            raise MonitorError(f"{command}: {error}") from error
        except (*_LOST, CancelledError) as error:
            raise self._lost(command, error) from error

    def connect_soon(self) -> None:
        """Connect without waiting for it, so that events are heard."""
        self._loop.submit(self._connection())

    def close(self) -> None:
        """Hang up. Commands under way end with GuestGone or DeadlineExceeded."""
        self._loop.submit(self._close()).result()

    def _lost(self, command: str, error: BaseException) -> DeadlineExceeded | GuestGone:
        if self._process.wait(_END_SEEN_WITHIN):
            return GuestGone(f"{self._process} {self._process.exit_reason()}")
        return DeadlineExceeded(f"{command}: the connection to the monitor was lost: {error}")

    async def _execute(self, command: str, arguments: Mapping[str, object], fd: int | None, deadline: float) -> object:
        loop = asyncio.get_running_loop()
        due = loop.time() + deadline
        with _closing(fd):
            client = (await self._connection()).client
            if loop.time() >= due:
                raise TimeoutError("nobody waits for it any more, and it must not happen late")
            if fd is not None:
                client.send_fd_scm(fd)
        return await client.execute(command, arguments)

    async def _connection(self) -> _Connection:
        """The open connection. Those who come while it is being opened wait for the same attempt."""
        if self._opening is None or (self._opening.done() and not _is_open(self._opening)):
            self._opening = asyncio.create_task(self._open(self._opening))
        return await asyncio.shield(self._opening)

    async def _open(self, former: asyncio.Task[_Connection] | None) -> _Connection:
        if former is not None and not _has_failed(former):
            await former.result().close()
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(ConnectError):
                return await _Connection.open(self._path, self._on_event)
            await asyncio.sleep(_PAUSE)
        return await _Connection.open(self._path, self._on_event)

    async def _close(self) -> None:
        opening = self._opening  # somebody may begin another attempt meanwhile, which fails by itself
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
            if not _has_failed(opening):
                await opening.result().close()


def _has_failed(opening: asyncio.Task[_Connection]) -> bool:
    return opening.cancelled() or opening.exception() is not None


def _is_open(opening: asyncio.Task[_Connection]) -> bool:
    return not _has_failed(opening) and opening.result().is_open


@contextlib.contextmanager
def _closing(fd: int | None) -> Iterator[None]:
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)
