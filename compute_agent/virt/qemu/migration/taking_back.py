"""A guest that was to go on elsewhere, never did, and cannot be asked back: its QEMU waits for the other one for good.

Once QEMU 7.2 has lost the connection that the rest of a guest's memory goes over, it neither cancels the migration nor
lets the guest go on; but nothing of the guest has been lost, for it has run nowhere else. So the agent plays the other
QEMU until the migration goes ahead, when it can be cancelled.

Source: QEMU's migration/migration.c, ram.c and savevm.c (``postcopy_do_resume``): the source asks for a bitmap of each
block of memory, then says that it resumes, and is told that both sides do.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import BinaryIO

from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.virt.process.descriptors import handed_over

_FD = "migration-back"
_COMMAND = struct.Struct(">BHH")
"""Of the source's: the kind of section, which command, how many bytes follow."""
_IS_COMMAND, _SEND_BITMAP, _RESUME = 8, 10, 9
_ANSWER = struct.Struct(">HH")
"""The kind of answer, how many bytes follow."""
_BITMAP, _RESUMED = 5, 6
_SIZE, _END_OF_BITMAP, _YES = struct.Struct(">Q"), 0x0123456789ABCDEF, struct.pack(">I", 1)
_PAGE, _WORD = 4096, 8


def go_ahead_to_nowhere(execute: Execute, seconds: float) -> None:
    """Have the migration, whose connection is lost, go ahead: the other end is in this process, and closed then.

    :raises MonitorError: QEMU does not go along with it.
    :raises DeadlineExceeded: it has not within `seconds`.
    """
    pages = _pages_of_blocks(execute)
    theirs, ours = socket.socketpair()
    with theirs, ours:
        ours.settimeout(seconds)
        execute("migrate-set-parameters", {"tls-creds": ""})
        with handed_over(execute, {_FD: theirs.fileno()}):
            execute("migrate", {"uri": f"fd:{_FD}", "resume": True})
        try:
            with ours.makefile("rb") as stream:
                _answer_until_it_resumes(ours, stream, pages)
            ours.sendall(_ANSWER.pack(_RESUMED, len(_YES)) + _YES)
            _cancel(execute, seconds)
        except TimeoutError:
            raise DeadlineExceeded(f"QEMU has not taken a guest back within {seconds:g} s") from None
        except (OSError, struct.error, KeyError) as error:
            raise MonitorError(f"QEMU does not take a guest back: {error!r}") from error


def _cancel(execute: Execute, seconds: float) -> None:
    """While somebody still is at the other end."""
    due = time.monotonic() + seconds
    while (status := execute("query-migrate")["status"]) == "postcopy-recover":
        if time.monotonic() > due:
            raise TimeoutError
    if status != "postcopy-active":
        raise MonitorError(f"a guest cannot be taken back: {status}")
    execute("migrate_cancel")


def _pages_of_blocks(execute: Execute) -> Mapping[bytes, int]:
    """Of the guest's memory, by name: a table for people, of which the fourth column after the name is used here."""
    table = execute("x-query-ramblock")["human-readable-text"].splitlines()[1:]
    sizes = {}
    for line in table:
        name, *columns = line.split()
        _offset, used, _total = (int(column, 16) for column in columns if column.startswith("0x"))
        sizes[name.encode()] = -(-used // _PAGE)
    return sizes


def _answer_until_it_resumes(connection: socket.socket, stream: BinaryIO, pages: Mapping[bytes, int]) -> None:
    """None of the pages has come in, whatever it asks about."""
    while True:
        kind, command, size = _COMMAND.unpack(stream.read(_COMMAND.size))
        named = stream.read(size)
        if kind != _IS_COMMAND or command not in (_SEND_BITMAP, _RESUME):
            raise MonitorError(f"QEMU does not take a guest back: it says {kind}, {command}")
        if command == _RESUME:
            return
        bitmap = bytes(-(-pages[named[1:]] // (8 * _WORD)) * _WORD)
        connection.sendall(
            _ANSWER.pack(_BITMAP, size) + named + _SIZE.pack(len(bitmap)) + bitmap + _SIZE.pack(_END_OF_BITMAP)
        )
