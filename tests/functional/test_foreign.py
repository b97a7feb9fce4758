"""What looks like a guest's and is not ours: shown, told of once, and never touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests
from tests.functional.operator import Operator

LOOKS = 3
ALONE, PLUGGED = "tapalone", "tapplugged"
A_QEMU = ("qemu-system-x86_64", "-machine", "none", "-display", "none", "-nodefaults", "-monitor", "none")


@contextmanager
def strangers(node: Node, switch: Switch) -> Iterator[list[str]]:
    """One of each kind; in the words of the agent."""
    files = [node.directory / place / "stranger" for place in ("state/disks", "state/guests", "run/guests")]
    for path in files:
        path.mkdir()
    image = node.directory / "state/images/a-copy.qcow2"
    image.write_bytes(b"kept by somebody")
    run("ip", "tuntap", "add", ALONE, "mode", "tap")
    switch.vsctl("add-port", "br-int", PLUGGED, "--", "set", "Interface", PLUGGED, "type=internal")
    process = subprocess.Popen(A_QEMU, stdin=subprocess.DEVNULL)
    try:
        yield sorted(
            [
                *(f"file {path}" for path in (*files, image)),
                f"port {PLUGGED} on bridge br-int",
                f"process {process.pid} of user 0, {Path(f'/proc/{process.pid}/exe').readlink()}",
                f"tap {ALONE} on no bridge of the switch",
            ]
        )
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        switch.vsctl("del-port", PLUGGED)
        run("ip", "link", "delete", ALONE)
        image.unlink()
        for path in files:
            path.rmdir()


def test_what_is_not_ours_is_shown_and_stays(node: Node, guests: Guests, switch: Switch) -> None:
    guests.boot()  # of which nothing is foreign
    assert guests.client.reconcile(dry_run=True) == []
    with strangers(node, switch) as wanted:
        for _ in range(LOOKS):
            assert [(one.kind, one.what, one.due) for one in guests.client.reconcile()] == [
                ("foreign", what, False) for what in wanted
            ]
        shown = Operator(node).types("reconcile", "--dry-run").stdout
        assert all(what in shown for what in wanted)
        log = node.log.read_text()
        assert [log.count(f"not ours, and stays: {what}") for what in wanted] == [1] * len(wanted)
    assert guests.client.reconcile(dry_run=True) == []
