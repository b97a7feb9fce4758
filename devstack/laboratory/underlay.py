"""The hosts' network: a bridge in the sandbox's network namespace, with a tap for each host."""

from __future__ import annotations

from laboratory.settings import GATEWAY, MTU, PREFIX
from sandbox.commands import run

_BRIDGE = "lab0"


class Underlay:
    """A context manager; one in a network namespace."""

    def __init__(self, hosts: int) -> None:
        self._taps = [tap_name(number) for number in range(1, hosts + 1)]

    def __enter__(self) -> Underlay:
        run("ip", "link", "add", _BRIDGE, "mtu", str(MTU), "type", "bridge")
        run("ip", "address", "add", f"{GATEWAY}/{PREFIX}", "dev", _BRIDGE)
        run("ip", "link", "set", _BRIDGE, "up")
        for tap in self._taps:
            run("ip", "tuntap", "add", tap, "mode", "tap")
            run("ip", "link", "set", tap, "mtu", str(MTU), "master", _BRIDGE, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for link in (*self._taps, _BRIDGE):
            run("ip", "link", "delete", link)


def tap_name(number: int) -> str:
    """Of the host with this number."""
    return f"lab{number}"
