"""Who serves a disk goes, and it is noticed once."""

from __future__ import annotations

import socket

from compute_agent.virt.vmm.server_watch import ServerWatch
from tests.unit.virt.waiting import until


def test_each_server_that_goes_is_told_of_once_and_what_others_say_is_not_taken() -> None:
    gone: list[str] = []
    watch = ServerWatch(gone.append)
    pairs = {name: socket.socketpair() for name in ("disk0", "disk1", "disk2")}
    watch.watch({name: ours.fileno() for name, (ours, _) in pairs.items()})
    pairs["disk0"][1].sendall(b"answer")
    pairs["disk1"][1].close()
    until(lambda: gone == ["disk1"])
    pairs["disk2"][1].close()
    until(lambda: gone == ["disk1", "disk2"])
    assert pairs["disk0"][0].recv(10) == b"answer"
    for ours, theirs in pairs.values():
        ours.close()
        theirs.close()


def test_what_is_watched_can_change() -> None:
    gone: list[str] = []
    watch = ServerWatch(gone.append)
    former, theirs = socket.socketpair()
    watch.watch({"disk0": former.fileno(), "disk1": -1})
    fresh, fresh_theirs = socket.socketpair()
    watch.watch({"disk0": fresh.fileno()})
    theirs.close()
    fresh_theirs.close()
    until(lambda: gone == ["disk0"])
    former.close()
    fresh.close()
