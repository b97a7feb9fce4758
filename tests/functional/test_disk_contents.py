"""Looking into a real system's disk, and changing it, with libguestfs; no agent and no guest takes part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.host.processes import ProcessEntry, find_processes
from compute_agent.instance.block_device import BlockDevice, Image
from sandbox import images
from sandbox.commands import run
from sandbox.images.linux import CLOUD, kernel_tree
from sandbox.node import Node
from tests.functional.guests import Guests, an_order

COMPUTECTL = Path(sys.executable).with_name("computectl")
SECONDS = 600
"""The emulated appliance takes 20 s on an idle machine."""

# The appliance is built with /lib/modules, which a machine without a kernel of its own does not have.
_WITH_MODULES = """
if ! [ -e /lib/modules ]; then
    mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" &&
    mount -t overlay none -o "lowerdir=/usr/lib,upperdir=$1/upper,workdir=$1/work" /usr/lib &&
    mkdir /usr/lib/modules && umount --lazy "$1" || exit 1
fi
shift
exec "$@"
"""


class Workshop:
    """A directory with a disk and a room for copies of it."""

    def __init__(self, path: Path) -> None:
        self.disk = path / "disk.qcow2"
        self.room = path / "room"
        self.room.mkdir()
        path.chmod(0o711)
        self.room.chmod(0o711)
        self._mount_point = path / "mount"
        self._mount_point.mkdir()

    def runs(self, verb: str, *words: str, status: int = 0, stdin: str = "") -> str:
        """What ``computectl image VERB DISK`` says."""
        return self.says("image", verb, str(self.disk), "--disk-format", "qcow2", *words, status=status, stdin=stdin)

    def says(self, *words: str, status: int = 0, stdin: str = "") -> str:
        """What ``computectl`` says that works here."""
        tree = kernel_tree(CLOUD)
        (modules,) = (tree / "root/lib/modules").iterdir()
        shell = ["unshare", "--mount", "sh", "-c", _WITH_MODULES, "sh", str(self._mount_point)]
        done = subprocess.run(
            [*shell, str(COMPUTECTL), *words, "--work-dir", str(self.room)],
            env=os.environ | {"SUPERMIN_KERNEL": str(tree / "vmlinuz"), "SUPERMIN_MODULES": str(modules)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == status, done.stderr
        assert list(self.room.iterdir()) == []
        assert find_processes(self._if_ours) == {}
        return done.stdout + done.stderr

    def _if_ours(self, entry: ProcessEntry) -> str | None:
        home = entry.variable("HOME") or ""
        return str(entry.pid) if home.startswith(str(self.room)) else None

    def content(self, path: str) -> str:
        """A file's, read by another program than the one that wrote it."""
        with_partition = self.disk.with_suffix(".raw")
        run("qemu-img", "convert", "-O", "raw", self.disk, with_partition)
        start = 1 << 20
        return run("debugfs", "-R", f"cat {path}", f"{with_partition}?offset={start}")

    def passwords(self) -> dict[str, str]:
        """Hashes by user."""
        entries = [line.split(":") for line in self.content("/etc/shadow").splitlines()]
        return {entry[0]: entry[1] for entry in entries}


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """With the sandbox's Debian. The sandbox's own directory is closed to other users."""
    path = Path(tempfile.mkdtemp(prefix="workshop-", dir="/var/tmp"))
    workshop = Workshop(path)
    shutil.copy(images.debian_image(), workshop.disk)
    workshop.disk.chmod(0o600)
    yield workshop
    shutil.rmtree(path)


def test_what_is_in_a_debian(workshop: Workshop) -> None:
    report = json.loads(workshop.runs("inspect", "-f", "json"))
    (system,) = report["operating_systems"]
    assert (system["distribution"], system["version"].partition(".")[0], system["cloud_init"]) == ("debian", "12", True)
    assert [one["type"] for one in report["file_systems"]] == ["ext4"]
    assert [one["start"] for one in report["partitions"]] == [1 << 20]
    assert report["virtual_size"] == 1 << 30


def test_disk_of_an_instance_that_is_stopped(workshop: Workshop, node: Node, guests: Guests) -> None:
    path = images.debian_image()
    image = Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="qcow2")
    disk = BlockDevice(source_type="image", image=image, size_gb=2)
    guest = guests.boot(an_order(config_drive=False, block_devices=[disk]))
    words = ("--config-file", str(node.config_file), "image", "inspect", "--instance", guest.uuid, "-f", "json")
    assert "is active: only a stopped one" in workshop.says(*words, status=1)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    report = json.loads(workshop.says(*words))
    (system,) = report["operating_systems"]
    assert (system["distribution"], report["virtual_size"]) == ("debian", 2 << 30)
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)


def test_files_keys_and_a_password(workshop: Workshop) -> None:
    motd, key = workshop.disk.with_name("motd"), workshop.disk.with_name("key.pub")
    motd.write_text("Put there\n")
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me\n")
    before = workshop.passwords()
    put = ["--copy", f"{motd}:/etc/motd", "--ssh-key", f"root:{key}", "--password", "root"]
    workshop.runs("put", *put, stdin="correct horse\n")
    assert workshop.content("/etc/motd") == "Put there\n"
    assert workshop.content("/root/.ssh/authorized_keys") == key.read_text()
    after = workshop.passwords()
    hashed = after["root"]
    assert after == before | {"root": hashed}
    assert run("openssl", "passwd", "-6", "-salt", hashed.split("$")[2], "correct horse").strip() == hashed
    assert workshop.disk.stat().st_mode & 0o777 == 0o600


def test_a_deadline_leaves_nothing_behind(workshop: Workshop) -> None:
    content = images.checksum(workshop.disk)
    assert "in time" in workshop.runs("put", "--password", "root", "--timeout", "4", stdin="x\n", status=1)
    assert images.checksum(workshop.disk) == content


def test_what_must_not_be_opened(workshop: Workshop) -> None:
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(workshop.disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guest:
        assert guest.stdin is not None and guest.stdout is not None
        guest.stdin.write(b"length\n")
        guest.stdin.flush()
        assert b"GiB" in guest.stdout.readline()
        assert "is in use" in workshop.runs("inspect", status=1)
        guest.stdin.close()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", workshop.disk, "1M")
    assert "backing file" in workshop.runs("inspect", status=1)
