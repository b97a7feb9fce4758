"""A scene of machines of our own on a KVM that can run no system: a firmware is all that runs in them."""

from __future__ import annotations

from pathlib import Path

from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.device_names import find_device
from compute_agent.instance.model import Flavor, Instance
from sandbox import images
from tests.functional.deaths import ROOT_MARK, Case, Scene
from tests.functional.disk_deaths import limits
from tests.functional.guests import an_order, with_hypervisor

_PAGE, _RESET_VECTOR = 4096, 0xFF0
_TO_THE_START = bytes.fromhex("e90df0")
_PROGRAM = """
    31c08ed88ed0bc0070c706200080f0c706220000f0    segments, a stack, and where the timer's interrupts lead
    b011e620b008e621b004e621b001e621b0fee621      a controller that lets them through
    b034e64330c0e640e640be87f0e8380031c931ed      a timer, 18 times a second; "GUEST READY"
    fbf441f7c1030075f745                          every four interrupts:
    be95f0e8240089e8e80800be9bf0e81900ebe3        "tick" and how many there were
    31d2bb0a00f7f35285c07403e8f1ff580430baf803eec3    a number, in decimal digits
    baf8032e8a044684c07403eeebf5c3                text, to the serial port
    50b020e62058cf                                what an interrupt does
"""
_TEXTS = b"GUEST READY\r\n\0tick \0\r\n\0"


def firmware(path: Path) -> Path:
    """In real mode: it counts aloud."""
    program = b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines()) + _TEXTS
    path.write_bytes(program.ljust(_RESET_VECTOR, b"\0") + _TO_THE_START.ljust(_PAGE - _RESET_VECTOR, b"\0"))
    return path


def marked_disk(path: Path) -> BlockDevice:
    """With a mark that copies of it must have, too."""
    path.write_bytes((bytes(ROOT_MARK * 512) + b"kept\n").ljust(64 * 1024, b"\0"))
    image = Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")
    return BlockDevice(source_type="image", image=image, size_gb=1, boot_index=0)


class MachineScene(Scene):
    """Nothing in its guests can read or write disks, nor lets go of one: what is on them, other tests look at."""

    def an_order(self, *devices: BlockDevice, arguments: str = "", config_drive: bool) -> Instance:
        """Without NICs, for those need vhost."""
        flavor = Flavor(vcpus=1, memory_mb=16)
        changes = {"direct_boot": None, "flavor": flavor, "block_devices": [self.root, *devices]}
        return with_hypervisor(an_order(ports=0, config_drive=config_drive, **changes), "vmm")

    def an_idle_order(self, *devices: BlockDevice) -> Instance:
        """All of them are."""
        return self.an_order(*devices, config_drive=False)

    def mark(self, disk: str, sector: int) -> None:
        """Nobody in there does."""

    def is_marked(self, disk: str, sector: int) -> bool:
        """The one disk that has a mark has it in copies; see `marked_disk`."""
        return True

    def have_volume(self, attached: bool) -> None:
        """The other instance has it, in those cases that need one."""

    def give_other(self, *devices: BlockDevice) -> None:
        """It begins anew, with these disks."""
        self.end_other()
        self.boot_other(*devices)

    def have_other_with_volume(self) -> None:
        if self.other is self.guest or self.volume_of_other() is None:
            self.give_other(self.volume)

    def volume_of_other(self) -> BlockDevice | None:
        """What the record has of it."""
        return find_device(self.guests.view(self.other.uuid).instance, str(self.volume.volume_id))


def _of_machines(scene: Scene) -> MachineScene:
    assert isinstance(scene, MachineScene)
    return scene


def _is_limited(scene: Scene) -> bool:
    present = _of_machines(scene).volume_of_other()
    return present is not None and present.qos == limits(scene)


def _has_grown(scene: Scene) -> bool:
    """So has the machine's disk, or what is left over would not be nothing."""
    present = _of_machines(scene).volume_of_other()
    return present is not None and present.size_gb == scene.number


MACHINES = {
    "attach": Case(
        operation="attach_volume",
        prepare=lambda scene: _of_machines(scene).give_other(),
        order=lambda scene, asked: scene.client.attach_volume(scene.other.uuid, scene.volume, asked),
        check=lambda scene: _of_machines(scene).volume_of_other() is not None,
    ),
    "grow": Case(
        operation="extend_volume",
        prepare=lambda scene: _of_machines(scene).have_other_with_volume(),
        order=lambda scene, asked: scene.client.extend_volume(scene.other.uuid, "disk1", scene.number, asked),
        check=_has_grown,
    ),
    "limit": Case(
        operation="set_disk_qos",
        prepare=lambda scene: _of_machines(scene).have_other_with_volume(),
        order=lambda scene, asked: scene.client.set_disk_qos(scene.other.uuid, "disk1", limits(scene), asked),
        check=_is_limited,
    ),
}
