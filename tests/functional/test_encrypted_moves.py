"""Encrypted disks of guests that run go to another QEMU's, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compute_agent.virt.contract import StartRequest
from compute_agent.virt.settings import VirtSettings
from tests.functional.containers import make_encrypted
from tests.processes.virt.conftest import MakeHypervisor, directory, exits, hypervisor, make_hypervisor, settings
from tests.processes.virt.test_migration import Sides, move_and_end, qcow2_disk, request_, waiting
from tests.unit.storage.making import qemu_img
from tests.unit.virt.waiting import start_up

__all__ = ["directory", "exits", "hypervisor", "make_hypervisor", "request_", "settings"]


def encrypted(request: StartRequest, directory: Path) -> Sides:
    """Its disk is: each host has a container of its own."""
    key, size = directory / "key", str((directory / "disk.raw").stat().st_size)
    key.write_text("secret")
    files = [make_encrypted(directory / f"{side}.qcow2", "qcow2", key, size=size) for side in ("here", "there")]
    secret = ("--object", f"secret,id=s,file={key}", "--image-opts")
    opened = [f"driver=qcow2,encrypt.key-secret=s,file.filename={path}" for path in files]
    content = f"driver=raw,file.filename={directory / 'disk.raw'}"
    qemu_img("convert", "-n", *secret, "--target-image-opts", content, opened[0])
    disks = [replace(qcow2_disk(request.disks[0], path), passphrase=b"secret") for path in files]
    here, there = (replace(request, disks=[disk]) for disk in disks)
    return Sides(here, there, (*secret, *opened))


def test_an_encrypted_disk_is_copied_above_its_encryption(
    make_hypervisor: MakeHypervisor, settings: VirtSettings, request_: StartRequest, directory: Path
) -> None:
    """The guest's content goes through the encrypted connection."""
    sides = encrypted(request_, directory)
    here = start_up(make_hypervisor(), sides.here)
    with waiting(settings, sides.there) as there:
        move_and_end(here, there)
    sides.assert_same()
    assert (directory / "here.qcow2").read_bytes() != (directory / "there.qcow2").read_bytes()
