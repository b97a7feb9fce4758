"""A scene of guests that do nothing with their disks, and can be asked for nothing."""

from __future__ import annotations

from pathlib import Path

from compute_agent.instance.block_device import Backend, BlockDevice, Image
from compute_agent.instance.device_names import find_device
from compute_agent.instance.model import Instance
from sandbox import images
from tests.functional.deaths import ROOT_MARK, Case, Scene
from tests.functional.disk_deaths import content, limits


def marked_disk(path: Path, backend: Backend = "qcow2") -> BlockDevice:
    """With a mark that copies of it must have, too."""
    path.write_bytes((bytes(ROOT_MARK * 512) + b"kept\n").ljust(64 * 1024, b"\0"))
    image = Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")
    return BlockDevice(source_type="image", image=image, size_gb=1, boot_index=0, backend=backend)


class IdleScene(Scene):
    """The other instance has the volume, in those cases that need one."""

    def boot_guest(self) -> Instance:
        """It need not tell that it is up."""
        order = self.an_idle_order()
        self.guests.finish(self.client.build_and_run_instance(order))
        return order

    def mark(self, disk: str, sector: int) -> None:
        """Nobody in there does; see `marked_disk`."""

    def is_marked(self, disk: str, sector: int) -> bool:
        """Of the root disk; which has to have no layers, and is looked at from outside."""
        return content(self, self.guest.uuid, sector * 512) == "kept"

    def have_volume(self, attached: bool) -> None:
        """The guest never has it."""

    def revive_guest(self) -> None:
        """Nor need it tell that here."""
        self.guests.finish(self.client.start_instance(self.guest.uuid))
        self.renew_pid()

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


def _of_idle(scene: Scene) -> IdleScene:
    assert isinstance(scene, IdleScene)
    return scene


def _is_limited(scene: Scene) -> bool:
    present = _of_idle(scene).volume_of_other()
    return present is not None and present.qos == limits(scene)


def _has_grown(scene: Scene) -> bool:
    """So has the guest's disk, or what is left over would not be nothing."""
    present = _of_idle(scene).volume_of_other()
    return present is not None and present.size_gb == scene.number


OF_OTHER = {
    "attach": Case(
        operation="attach_volume",
        prepare=lambda scene: _of_idle(scene).give_other(),
        order=lambda scene, asked: scene.client.attach_volume(scene.other.uuid, scene.volume, asked),
        check=lambda scene: _of_idle(scene).volume_of_other() is not None,
    ),
    "grow": Case(
        operation="extend_volume",
        prepare=lambda scene: _of_idle(scene).have_other_with_volume(),
        order=lambda scene, asked: scene.client.extend_volume(scene.other.uuid, "disk1", scene.number, asked),
        check=_has_grown,
    ),
    "limit": Case(
        operation="set_disk_qos",
        prepare=lambda scene: _of_idle(scene).have_other_with_volume(),
        order=lambda scene, asked: scene.client.set_disk_qos(scene.other.uuid, "disk1", limits(scene), asked),
        check=_is_limited,
    ),
}
