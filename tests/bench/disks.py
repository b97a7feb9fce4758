"""Disks: clones, what a guest gets out of a disk, attach and detach, against the same by hand."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from compute_agent.instance.view import Accepted
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from sandbox.ceph import Ceph
from sandbox.node import Node
from tests.bench.comparison import Comparison, compared
from tests.bench.disk_guest import DiskGuestByHand
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import run_inside, run_over

GIB = 1024**3
ROUNDS = 10
ROUNDS_INSIDE = 5
_AREA_MB = 130
"""What is written first: every 4 KiB block that the shell's $RANDOM (15 bits) can name, and a burst more."""
_BURST = "for n in $(seq {bursts}); do dd bs=4k count=32 {what} 2>/dev/null; done"
_LOADS = {
    "random 4k reads": _BURST.format(bursts=40, what="if=/dev/{disk} of=/dev/null iflag=direct skip=$RANDOM"),
    "random 4k writes": _BURST.format(bursts=20, what="if=/dev/zero of=/dev/{disk} oflag=direct seek=$RANDOM"),
    "sequential reads": "dd if=/dev/{disk} of=/dev/null bs=1M count=128 iflag=direct",
    "sequential writes": "dd if=/dev/zero of=/dev/{disk} bs=1M count=128 oflag=direct",
}
"""Random: bursts of 32 blocks from a random place on; with a process for each block, that would be what is measured."""
_END = re.compile(r"took ([\d.]+) ([\d.]+)\r?\n")

Run = Callable[[str], str]


def run(node: Node, ceph: Ceph, directory: Path) -> Iterator[Comparison]:
    """Turn by turn. The node makes disks in `ceph`."""
    directory.mkdir()
    yield _clone_in_ceph(ceph)
    yield _overlay(directory)
    guests = Guests(node)
    disks = [BlockDevice(source_type="blank", size_gb=1, backend=backend) for backend in ("qcow2", "rbd")]
    guest = guests.boot(an_order(ports=0, config_drive=False, block_devices=disks))
    with DiskGuestByHand(guests.view(guest.uuid).pid or 0, directory / "hand", ceph) as hand:
        yield from _inside(lambda command: run_inside(guests, guest.uuid, command, 120), hand)
        yield from _plugging(guests, guest.uuid, hand, directory)
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
    return [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]


def _seconds(call: Callable[[], None]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _inside(ours: Run, hand: DiskGuestByHand) -> Iterator[Comparison]:
    theirs = _shell_of(hand)
    for disk, where, other in (("vda", "a qcow2 disk", "QEMU by hand"), ("vdb", "a disk in Ceph", "librbd in QEMU")):
        for run_there in (ours, theirs):
            run_there(f"dd if=/dev/zero of=/dev/{disk} bs=1M count={_AREA_MB} oflag=direct")
        for name, load in _LOADS.items():
            command = load.replace("{disk}", disk)
            pairs = [(_took(ours, command), _took(theirs, command)) for _ in range(ROUNDS_INSIDE)]
            yield compared(f"{name}, {where}", pairs, 1.0, other)


def _took(run_there: Run, command: str) -> float:
    """Seconds by the guest's own clock, in steps of 10 ms."""
    now = "$(cut -d ' ' -f 1 /proc/uptime)"
    said = run_there(f"began={now}; {command}; echo took $began {now}")
    found = _END.search(said + "\n")
    assert found, said
    return float(found[2]) - float(found[1])


def _shell_of(hand: DiskGuestByHand) -> Run:
    return lambda command: run_over(hand.console, command, 120)


def _plugging(guests: Guests, instance_uuid: str, hand: DiskGuestByHand, directory: Path) -> Iterator[Comparison]:
    theirs = _shell_of(hand)
    attached, detached = [], []
    for _ in range(ROUNDS):
        device = _volume(guests.node)
        ours = _seconds(lambda device=device: _finish(guests, guests.client.attach_volume(instance_uuid, device)))
        by_hand = _seconds(lambda: _attach(hand, _file(directory)))
        attached.append((ours, by_hand))
        until(lambda: "vdc" in run_inside(guests, instance_uuid, "ls /sys/block"))
        until(lambda: "vdc" in theirs("ls /sys/block"))
        gone = str(device.volume_id)
        ours = _seconds(lambda gone=gone: _finish(guests, guests.client.detach_volume(instance_uuid, gone)))
        detached.append((ours, _seconds(lambda: _detach(hand))))
    yield compared("attach a file", attached, 1.5, "QMP by hand")
    yield compared("detach a file", detached, 1.5, "QMP by hand")


def _finish(guests: Guests, accepted: Accepted) -> None:
    guests.finish(accepted)


def _file(directory: Path) -> Path:
    path = directory / f"{uuid.uuid4()}.raw"
    with path.open("wb") as file:
        file.truncate(64 * 1024**2)
    return path


def _volume(node: Node) -> BlockDevice:
    volume = FileVolume(path=str(_file(node.volumes)), format="raw", access_mode="rw")
    connection = FileConnection(data=volume)
    return BlockDevice(source_type="volume", volume_id=str(uuid.uuid4()), connection_info=connection)


def _attach(hand: DiskGuestByHand, path: Path) -> None:
    file = {"driver": "file", "filename": str(path)}
    hand.ask("blockdev-add", {"driver": "raw", "node-name": "more", "file": file})
    hand.ask("device_add", {"driver": "virtio-blk-pci", "id": "more", "drive": "more", "bus": "rp2"})


def _detach(hand: DiskGuestByHand) -> None:
    hand.ask("device_del", {"id": "more"})
    hand.await_deleted("more")
    hand.ask("blockdev-del", {"node-name": "more"})
