"""What a qemu-storage-daemon is started with and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import FileSource
from compute_agent.instance.wire import CacheMode
from compute_agent.storage.rbd.credentials import Credentials
from compute_agent.storage.server.command_line import command_line
from compute_agent.storage.server.exports import FileExport, RbdExport
from compute_agent.storage.server.graph import (
    decrypting,
    export_arguments,
    file_node,
    format_node,
    limiting_node,
    rbd_node,
)

CREDENTIALS = Credentials(conf=Path("/etc/ceph/ceph.conf"), key="c2VjcmV0")
RBD = RbdExport(name="disk0", pool="volumes", image="volume-1", user="compute", credentials=CREDENTIALS)
FILE = FileExport(name="disk1", source=FileSource(path=Path("/disks/disk1.qcow2"), format="qcow2"))
COMMON = {"read-only": False, "discard": "unmap", "cache": {"direct": False, "no-flush": False}}


def test_command_line_names_descriptors_only() -> None:
    assert command_line("/usr/bin/qemu-storage-daemon", monitor=7, nbd=9) == [
        "/usr/bin/qemu-storage-daemon",
        "--chardev",
        "socket,id=monitor,fd=7,server=on,wait=off",
        "--monitor",
        "chardev=monitor",
        "--nbd-server",
        "addr.type=fd,addr.str=9",
    ]


def test_image_in_ceph() -> None:
    assert rbd_node("disk0", RBD, conf="/proc/self/fd/12", secret="key") == {
        "driver": "rbd",
        "node-name": "disk0",
        "pool": "volumes",
        "image": "volume-1",
        "conf": "/proc/self/fd/12",
        "user": "compute",
        "key-secret": "key",
        "auth-client-required": ["cephx"],
        **COMMON,
        "cache": {"direct": True, "no-flush": False},
    }


def test_file_stands_on_what_it_is_told_and_nothing_else() -> None:
    assert file_node("disk1-file", FILE, path="/proc/self/fd/12", read_only=True) == {
        "driver": "file",
        "node-name": "disk1-file",
        "filename": "/proc/self/fd/12",
        "aio": "threads",
        **COMMON,
        "read-only": True,
    }
    assert format_node("disk1", FILE, "qcow2", backing=None, read_only=False) == {
        "driver": "qcow2",
        "node-name": "disk1",
        "file": "disk1-file",
        "backing": None,
        **COMMON,
    }
    assert "backing" not in format_node("disk1", FILE, "raw", backing=None, read_only=False)


@pytest.mark.parametrize(
    ("cache", "direct", "no_flush"),
    [
        ("writeback", False, False),
        ("writethrough", False, False),
        ("none", True, False),
        ("directsync", True, False),
        ("unsafe", False, True),
    ],
)
def test_cache_mode(cache: CacheMode, direct: bool, no_flush: bool) -> None:
    export = FileExport(name="disk1", source=FILE.source, cache=cache)
    node = file_node("disk1-file", export, path="/proc/self/fd/12", read_only=False)
    assert node["cache"] == {"direct": direct, "no-flush": no_flush}


def test_exports() -> None:
    assert export_arguments("disk0.1024", RBD) == {
        "type": "nbd",
        "name": "disk0.1024",
        "id": "disk0.1024",
        "node-name": "disk0.1024",
        "writable": True,
    }
    export = FileExport(name="disk1", source=FILE.source, read_only=True, transport="vhost-user-blk")
    assert export_arguments("disk1", export) == {
        "type": "vhost-user-blk",
        "id": "disk1",
        "node-name": "disk1",
        "writable": False,
        "addr": {"type": "unix", "path": "/run/disk1.sock"},
        "num-queues": 1,
        "writethrough": False,
    }


def test_what_a_hypervisor_does_for_other_disks_is_done_by_the_server() -> None:
    export = replace(FILE, transport="vhost-user-blk", queues=4, cache="directsync", discard=False, detect_zeroes="on")
    assert {"num-queues": 4, "writethrough": True}.items() <= export_arguments("disk1", export).items()
    export = replace(export, qos=DiskQos(total_iops_sec=100))
    assert limiting_node("disk1", export, "disk1-00") == {
        "driver": "throttle",
        "node-name": "disk1",
        "file": "disk1-00",
        "throttle-group": "limits-disk1",
        "detect-zeroes": "on",
        "read-only": False,
        "discard": "ignore",
        "cache": {"direct": True, "no-flush": False},
    }
    unmapping = limiting_node("disk1", replace(export, discard=True, detect_zeroes="unmap"), "disk1-00")
    assert (unmapping["detect-zeroes"], unmapping["discard"]) == ("unmap", "unmap")


def test_containers_are_opened() -> None:
    qcow2 = format_node("disk1-00", FILE, "qcow2", backing=None, read_only=False)
    assert decrypting(qcow2, secret="key") == qcow2 | {"encrypt": {"format": "luks", "key-secret": "key"}}
    raw = format_node("disk1-00", FILE, "raw", backing=None, read_only=False)
    assert decrypting(raw, secret="key") == raw | {"driver": "luks", "key-secret": "key"}
