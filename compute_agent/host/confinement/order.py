"""What the agent asks the fork server for, as it goes over the socket between them.

A message of JSON, then the descriptors in messages of their own, because one takes no more than 253. The answer is
the number of the process. How far that came it tells itself, through a pipe that closes when the program runs.
"""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_LARGEST = 1 << 17
"""Bytes; a guest's arguments take some 10 KiB."""
_DESCRIPTORS_A_MESSAGE = 250


class Order(NamedTuple):
    """One process. Descriptors come in this order: the status pipe, the log, `cgroups` of cgroup.procs, the others."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    uid: int
    devices: Sequence[str]
    is_server: bool
    cgroups: int
    numbers: Sequence[int]
    """Under which the other descriptors are passed to the program."""


def send_order(control: socket.socket, order: Order, descriptors: Sequence[int]) -> None:
    """:raises OSError: the fork server is not there, or the order is too large."""
    control.send(json.dumps(order._asdict() | {"descriptors": len(descriptors)}).encode())
    for start in range(0, len(descriptors), _DESCRIPTORS_A_MESSAGE):
        batch = array.array("i", descriptors[start : start + _DESCRIPTORS_A_MESSAGE])
        control.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, batch)])


def receive_order(control: socket.socket) -> tuple[Order, list[int]] | None:
    """The next order with its descriptors; None: the agent has hung up."""
    message = control.recv(_LARGEST)
    if not message:
        return None
    fields = json.loads(message)
    expected = fields.pop("descriptors")
    descriptors = array.array("i")
    while len(descriptors) < expected:
        batch = _receive_descriptors(control)
        if not batch:  # the agent died between two messages
            return None
        descriptors.frombytes(batch)
    return Order(**fields), list(descriptors)


def _receive_descriptors(control: socket.socket) -> bytes:
    # Without the flag (which socket.recv_fds drops) they would be open in every program that is started from here on.
    room = socket.CMSG_LEN(_DESCRIPTORS_A_MESSAGE * array.array("i").itemsize)
    ancillary = control.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)[1]
    return b"".join(data for _, _, data in ancillary)
