"""Asking a guest to let go of a device, and waiting until it has."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any

from compute_agent.errors import DetachRefused, GuestGone, MonitorError
from compute_agent.host.qmp import Execute

_UNDER_WAY = "in the process of unplug"
"""The monitor's words where the guest has been asked before and has not answered."""
_NO_DEVICE = " not found"
"""The same where there is none."""
_DELETED, _REFUSED, _ENDED = "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "the process has ended"


_DEVICES = "/machine/peripheral"


def device_path(name: str) -> str:
    """Where the monitor has a device's properties."""
    return f"{_DEVICES}/{name}"


def has_device(execute: Execute, name: str) -> bool:
    """The guest has a device of that name."""
    return any(child["name"] == name for child in execute("qom-list", {"path": _DEVICES}))


class Unplugging:
    """Of one running guest's devices, over its monitor. May be repeated after a crash."""

    def __init__(self, execute: Execute, seconds: float) -> None:
        """The guest gets `seconds` to let go of a device."""
        self._execute = execute
        self._seconds = seconds
        self._awaited: dict[str, queue.SimpleQueue[str]] = {}
        """By device: what happens to it."""

    def unplug(self, name: str) -> None:
        """Have the guest let go of a device. Nothing happens where there is none.

        :raises DetachRefused: it has not; the device is as it was, and this may be repeated.
        :raises GuestGone: its process ended meanwhile.
        """
        happens: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._awaited[name] = happens
        try:
            if self._ask_to_let_go(name):
                self._await_unplugged(name, happens)
        finally:
            del self._awaited[name]

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] in (_DELETED, _REFUSED):
            self._tell(event["data"].get("device", ""), event["event"])

    def ended(self) -> None:
        """Nothing will happen any more."""
        for name in list(self._awaited):
            self._tell(name, _ENDED)

    def _tell(self, name: str, what: str) -> None:
        if (awaited := self._awaited.get(name)) is not None:
            awaited.put(what)

    def _ask_to_let_go(self, name: str) -> bool:
        """False: the guest does not have it."""
        try:
            self._execute("device_del", {"id": name})
        except MonitorError as error:
            if _NO_DEVICE in str(error):
                return False
            if _UNDER_WAY not in str(error):
                raise
        return True

    def _await_unplugged(self, name: str, happens: queue.SimpleQueue[str]) -> None:
        try:
            what = happens.get(timeout=self._seconds)
        except queue.Empty:
            # The event is lost where the connection was lost meanwhile.
            if has_device(self._execute, name):
                text = f"{name}: the guest has not let go of it within {self._seconds:g} s"
                raise DetachRefused(text) from None
            return
        if what == _ENDED:
            raise GuestGone(f"{name}: the guest's process has ended")
        if what == _REFUSED:
            raise DetachRefused(f"{name}: the guest does not let go of it")
