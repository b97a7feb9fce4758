"""Encrypted disks of guests that run go to another QEMU's, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from tests.functional.containers import make_encrypted
from tests.unit.storage.making import qemu_img
from tests.unit.virt.conftest import MakeHypervisor, directory, end_all, exits, hypervisor, make_hypervisor, settings
from tests.unit.virt.test_migration import begin, carry, qcow2_disk, request_
from tests.unit.virt.waiting import start_up, until

__all__ = ["directory", "exits", "hypervisor", "make_hypervisor", "request_", "settings"]


def test_an_encrypted_disk_is_copied_above_its_encryption(
    make_hypervisor: MakeHypervisor, settings: VirtSettings, request_: StartRequest, directory: Path, tmp_path: Path
) -> None:
    """Each host has its own container; the guest's content goes through the encrypted connection."""
    key, size = tmp_path / "key", str((directory / "disk.raw").stat().st_size)
    key.write_text("secret")
    files = {side: make_encrypted(directory / f"{side}.qcow2", "qcow2", key, size=size) for side in ("here", "there")}
    secret = f"secret,id=s,file={key}"
    opened = {side: f"driver=qcow2,encrypt.key-secret=s,file.filename={path}" for side, path in files.items()}
    content = f"driver=raw,file.filename={directory / 'disk.raw'}"
    qemu_img("convert", "-n", "--object", secret, "--image-opts", "--target-image-opts", content, opened["here"])
    requests = {
        side: replace(
            request_,
            disks=[replace(qcow2_disk(request_.disks[0], path), passphrase=b"secret")],
            is_incoming=side == "there",
        )
        for side, path in files.items()
    }
    other = replace(settings, state_dir=directory / "state2", run_dir=directory / "run2")
    others = QemuHypervisor(other, lambda exited: None)
    here, there = start_up(make_hypervisor(), requests["here"]), others.start(requests["there"])
    try:
        begin(here, there)
        carry(here)
        until(there.incoming.is_complete)
        there.incoming.shut_disks()
        here.kill()
        there.kill()
    finally:
        end_all(others)
    assert "identical" in qemu_img("compare", "--object", secret, "--image-opts", *opened.values())
    assert files["here"].read_bytes() != files["there"].read_bytes()
