"""A hypervisor on real QEMU (TCG) with a guest of some bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.model import Flavor, Instance
from compute_agent.virt.contract import GuestExit, StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from tests.processes.virt.tiny_guest import make_disk
from tests.unit.virt.conftest import directory, settings

__all__ = ["directory", "settings"]

UUID = "5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11"

MakeHypervisor = Callable[..., QemuHypervisor]


@pytest.fixture
def exits() -> Queue[GuestExit]:
    return Queue()


@pytest.fixture
def make_hypervisor(settings: VirtSettings, exits: Queue[GuestExit]) -> Iterator[MakeHypervisor]:
    """Each call is another life of the agent; the last one ends what still runs."""
    made: list[QemuHypervisor] = []

    def make(**changes: object) -> QemuHypervisor:
        if made:
            made[-1].close()
        made.append(QemuHypervisor(replace(settings, **changes), exits.put))  # type: ignore[arg-type]
        return made[-1]

    yield make
    if made:
        end_all(made[-1])


@pytest.fixture
def hypervisor(make_hypervisor: MakeHypervisor) -> QemuHypervisor:
    return make_hypervisor()


@pytest.fixture
def request_(hypervisor: QemuHypervisor, directory: Path) -> StartRequest:
    return tiny_request(hypervisor, directory)


def tiny_request(hypervisor: QemuHypervisor, directory: Path) -> StartRequest:
    block_devices = [BlockDevice(source_type="blank", size_gb=1, boot_index=0)]
    flavor = Flavor(vcpus=1, memory_mb=16)
    instance = Instance(uuid=UUID, name="tiny", flavor=flavor, block_devices=block_devices, config_drive=False)
    disk = Disk(
        name="disk0",
        source=FileSource(path=make_disk(directory / "disk.raw"), format="raw"),
        serial="tiny",
        boot_index=0,
    )
    return StartRequest(instance=instance, machine=hypervisor.design(instance), disks=[disk], nics=[])


def end_all(hypervisor: QemuHypervisor) -> None:
    for uuid in hypervisor.inspect():
        if guest := hypervisor.adopt(uuid):
            guest.kill()
    hypervisor.close()
