"""Golden files: an instance (JSON) and its QEMU command line, one argument a line.

``REGENERATE_GOLDEN=1 pytest tests/unit/virt/test_command_line.py`` writes them anew; read the difference.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import BootFiles, Disk, FileSource, NbdSource, Nic
from compute_agent.instance.model import Instance
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.block_nodes import connection_name, local_files
from compute_agent.virt.qemu.command_line import GuestDescriptors, command_line
from compute_agent.virt.qemu.design import design_machine

GOLDEN = Path(__file__).parents[2] / "golden" / "qemu"


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """What a golden file's JSON says: the instance, and what storage and network made of it."""

    instance: Instance
    accelerator: Literal["kvm", "tcg"]
    disks: list[dict[str, Any]] = []
    nics: list[Nic] = []
    iothreads: int = 1
    boot: BootFiles | None = None
    saved_state: Path | None = None
    is_incoming: bool = False


def disk_of(description: dict[str, Any]) -> Disk:
    kind = FileSource if "path" in description["source"] else NbdSource
    source = msgspec.convert(description["source"], kind, dec_hook=lambda kind, value: kind(value))
    qos = msgspec.convert(description.get("qos"), DiskQos | None)
    passphrase = description.get("passphrase", "").encode() or None
    return Disk(**description | {"source": source, "qos": qos, "passphrase": passphrase})


def read_case(path: Path) -> Case:
    return msgspec.json.decode(path.read_bytes(), type=Case, dec_hook=lambda kind, value: kind(value))


def arguments_of(case: Case) -> list[str]:
    disks = [disk_of(description) for description in case.disks]
    request = StartRequest(
        instance=case.instance,
        machine=design_machine(case.instance, "pc-q35-7.2", case.accelerator),
        disks=disks,
        nics=case.nics,
        boot=case.boot,
        saved_state=case.saved_state,
        is_incoming=case.is_incoming,
    )
    nodes = [node for disk in disks for node, _, _ in local_files(disk, disk.name)]
    fds = GuestDescriptors(
        monitor=10,
        console=11,
        guest_agent=12,
        console_log=13,
        files={name: 30 + index for index, name in enumerate(nodes)},
        connections={
            connection_name(disk.name): disk.source.fd for disk in disks if isinstance(disk.source, NbdSource)
        },
        passphrases={disk.name: 50 + index for index, disk in enumerate(disks) if disk.passphrase},
        kernel=14 if case.boot else None,
        ramdisk=15 if case.boot and case.boot.ramdisk else None,
        saved_state=16 if case.saved_state else None,
    )
    return command_line("qemu-system-x86_64", request, fds, case.iothreads)


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.json"))])
def test_golden(name: str) -> None:
    arguments = arguments_of(read_case(GOLDEN / f"{name}.json"))
    golden = GOLDEN / f"{name}.args"
    if os.environ.get("REGENERATE_GOLDEN"):
        golden.write_text("\n".join(arguments) + "\n")
    assert arguments == golden.read_text().splitlines()


def test_what_an_owner_writes_stays_inside_its_argument() -> None:
    case = read_case(GOLDEN / "direct_boot.json")
    harmless = arguments_of(case)
    evil = 'x,debug-threads=off",\n-monitor stdio,process=y'
    assert case.boot is not None
    changed = msgspec.structs.replace(
        case,
        instance=msgspec.structs.replace(case.instance, name=evil),
        boot=BootFiles(kernel=case.boot.kernel, ramdisk=case.boot.ramdisk, command_line=f"-monitor {evil}"),
    )
    differ = {new for old, new in zip(harmless, arguments_of(changed), strict=True) if old != new}
    assert differ == {f"guest={evil.replace(',', ',,')},debug-threads=on", f"-monitor {evil}"}


def test_devices_are_where_the_machine_says() -> None:
    case = read_case(GOLDEN / "image_boot.json")
    arguments = arguments_of(case)
    devices = [json.loads(value) for option, value in pairwise(arguments) if option == "-device"]
    buses: dict[str, Any] = {device["id"]: device.get("bus") for device in devices}
    assert {name: buses[name] for name in ("disk0", "disk1", "config", "net0", "net1")} == {
        "disk0": "rp0",
        "disk1": "rp1",
        "config": "rp2",
        "net0": "rp3",
        "net1": "rp4",
    }
