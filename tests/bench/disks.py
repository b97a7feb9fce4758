"""Disks: clones and what a guest gets out of a disk, against the same by hand; then `plugging`."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from tests.bench import plugging
from tests.bench.comparison import Comparison, compared, seconds
from tests.bench.disk_guest import DiskGuestByHand
from tests.bench.ends import Ends
from tests.functional.guests import Guests, an_order
from tests.functional.shell import run_inside

GIB = 1024**3
ROUNDS = 10
ROUNDS_INSIDE = 5
AREA_MB = 130
"""What is written first: every 4 KiB block that the shell's $RANDOM (15 bits) can name, and a burst more."""
_BURST = "for n in $(seq {bursts}); do dd bs=4k count=32 {what} 2>/dev/null; done"
LOADS = {
    "random 4k reads": _BURST.format(bursts=40, what="if=/dev/{disk} of=/dev/null iflag=direct skip=$RANDOM"),
    "random 4k writes": _BURST.format(bursts=20, what="if=/dev/zero of=/dev/{disk} oflag=direct seek=$RANDOM"),
    "sequential reads": "dd if=/dev/{disk} of=/dev/null bs=1M count=128 iflag=direct",
    "sequential writes": "dd if=/dev/zero of=/dev/{disk} bs=1M count=128 oflag=direct",
}
"""Random: bursts of 32 blocks from a random place on; with a process for each block, that would be what is measured."""
_END = re.compile(r"took ([\d.]+) ([\d.]+)\r?\n")

Run = Callable[[str], str]


def run(node: Node, broker: Broker, ceph: Ceph, directory: Path) -> Iterator[Comparison]:
    """Turn by turn. The node makes disks in `ceph`."""
    directory.mkdir()
    yield _clone_in_ceph(ceph)
    yield _overlay(directory)
    guests = Guests(node)
    disks = [BlockDevice(source_type="blank", size_gb=1, backend=backend) for backend in ("qcow2", "rbd")]
    guest = guests.boot(an_order(ports=0, config_drive=False, block_devices=disks))
    with DiskGuestByHand(guests.view(guest.uuid).pid or 0, directory / "hand", ceph) as hand:
        yield from _inside(lambda command: run_inside(guests, guest.uuid, command, 120), hand)
        with closing(Ends(broker.transport_url)) as ends:
            yield from plugging.run(guests, ends, guest.uuid, hand, directory)
    guests.terminate_all()


def _clone_in_ceph(ceph: Ceph) -> Comparison:
    parent = f"parent-{uuid.uuid4().hex[:8]}"
    ceph.rbd("create", f"{ceph.pool}/{parent}", "--size", "1G")
    ceph.rbd("snap", "create", "--no-progress", f"{ceph.pool}/{parent}@base")
    ceph.rbd("snap", "protect", f"{ceph.pool}/{parent}@base")
    user = ClusterUser(auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    with closing(Cluster(user, CephSettings(conf_dir=ceph.conf_dir, secret_dir=ceph.secret_dir))) as cluster:
        cluster.fsid()  # connected from here on, as a running agent is

        def ours() -> None:
            name = str(uuid.uuid4())
            cluster.clone(ceph.pool, name, ceph.pool, parent, "base")
            cluster.resize(ceph.pool, name, 2 * GIB)

        def theirs() -> None:
            name = f"{ceph.pool}/{uuid.uuid4()}"
            ceph.rbd("clone", f"{ceph.pool}/{parent}@base", name)

        return compared("clone and grow an image in Ceph", _pairs(ours, theirs), 1.0, "rbd clone, which does not grow")


def _overlay(directory: Path) -> Comparison:
    base = directory / "base.raw"
    with base.open("wb") as file:
        file.truncate(GIB)
    qemu_img = QemuImg("qemu-img", 30)

    def ours() -> None:
        qemu_img.create_overlay(directory / uuid.uuid4().hex, (base, "raw"), GIB)

    def theirs() -> None:
        path = directory / uuid.uuid4().hex
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path]
        subprocess.run(command, check=True, timeout=30)

    return compared("clone a file", _pairs(ours, theirs), 1.0, "qemu-img create -b")


def _pairs(ours: Callable[[], None], theirs: Callable[[], None]) -> list[tuple[float, float]]:
    return [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]


def _inside(ours: Run, hand: DiskGuestByHand) -> Iterator[Comparison]:
    for disk, where, other in (("vda", "a qcow2 disk", "QEMU by hand"), ("vdb", "a disk in Ceph", "librbd in QEMU")):
        for run_there in (ours, hand.shell):
            run_there(f"dd if=/dev/zero of=/dev/{disk} bs=1M count={AREA_MB} oflag=direct")
        for name, load in LOADS.items():
            command = load.replace("{disk}", disk)
            pairs = [(took(ours, command), took(hand.shell, command)) for _ in range(ROUNDS_INSIDE)]
            yield compared(f"{name}, {where}", pairs, 1.0, other)


def took(run_there: Run, command: str) -> float:
    """Seconds by the guest's own clock, in steps of 10 ms."""
    now = "$(cut -d ' ' -f 1 /proc/uptime)"
    said = run_there(f"began={now}; {command}; echo took $began {now}")
    found = _END.search(said + "\n")
    assert found, said
    return float(found[2]) - float(found[1])
