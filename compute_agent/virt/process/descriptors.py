"""Descriptors on their way into a guest's process: its monitor has them by name until a command takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count

from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import Nic

_TAP, _VHOST = "tap", "vhost"


@contextmanager
def handed_over(execute: Execute, named: Mapping[str, int]) -> Iterator[None]:
    """Meanwhile the monitor has these; what is left of them where a command refuses is closed."""
    try:
        for name, fd in named.items():
            execute("getfd", {"fdname": name}, fd=fd)
        yield
    except MonitorError:
        for name in named:
            with suppress(MonitorError):  # it has been taken
                execute("closefd", {"fdname": name})
        raise


def tap_descriptors(nic: Nic) -> dict[str, int]:
    """Those of the NIC's tap, by the names that a monitor gets them under."""
    return {_name(nic.name, _TAP, number): fd for number, fd in enumerate(nic.tap_fds)}


def vhost_descriptors(nic: Nic) -> dict[str, int]:
    """Those of vhost, likewise."""
    return {_name(nic.name, _VHOST, number): fd for number, fd in enumerate(nic.vhost_fds)}


def close_left_over(execute: Execute, nic: str) -> None:
    """Of the NIC of that name, what somebody handed over and died before a command took it."""
    for kind in (_TAP, _VHOST):
        with suppress(MonitorError):  # there are no more
            for number in count():
                execute("closefd", {"fdname": _name(nic, kind, number)})


def _name(nic: str, kind: str, number: int) -> str:
    return f"{nic}-{kind}{number}"
