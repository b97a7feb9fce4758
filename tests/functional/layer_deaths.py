"""Layers of a disk in files, as cases of deaths: of a guest that runs, and of an instance that is stopped."""

from __future__ import annotations

from compute_agent.instance.state import VmState
from tests.functional.deaths import ROOT_MARK, Case, Scene
from tests.functional.life_deaths import have_other

_DISK = "disk0"


def _layers(scene: Scene, instance_uuid: str) -> list[str]:
    """By the record."""
    (device, *_) = scene.guests.view(instance_uuid).instance.block_devices
    return list(device.layers)


def _files(scene: Scene, instance_uuid: str) -> list[str]:
    """Of the disk, and of its layers."""
    return sorted(path.name for path in (scene.node.directory / "state/disks" / instance_uuid).glob(f"{_DISK}*"))


def _have_layer(scene: Scene, instance_uuid: str) -> None:
    scene.guests.finish(scene.client.volume_snapshot_create(instance_uuid, _DISK, scene.copy_id))


def _lose_layer(scene: Scene, instance_uuid: str) -> bool:
    """The disk is whole without it."""
    scene.guests.finish(scene.client.volume_snapshot_delete(instance_uuid, _DISK, scene.copy_id))
    return has_no_layer(scene, instance_uuid)


def has_no_layer(scene: Scene, instance_uuid: str) -> bool:
    """By the record, and by what files there are."""
    return (_layers(scene, instance_uuid), _files(scene, instance_uuid)) == ([], [f"{_DISK}.qcow2"])


def _has_one(scene: Scene, instance_uuid: str) -> bool:
    """And once it is gone, the disk has what was written to it."""
    files = [f"{_DISK}.qcow2", f"{_DISK}.qcow2.{scene.copy_id}"]
    return (_layers(scene, instance_uuid), _files(scene, instance_uuid)) == ([scene.copy_id], files)


def _is_layered(scene: Scene) -> bool:
    return _has_one(scene, scene.guest.uuid) and _lose_layer(scene, scene.guest.uuid)


def _write_to_layer(scene: Scene) -> None:
    _have_layer(scene, scene.guest.uuid)
    scene.mark("vda", ROOT_MARK)


def _layer_of_stopped(scene: Scene) -> None:
    have_other(scene, VmState.STOPPED)
    _have_layer(scene, scene.other.uuid)


LAYERS = {
    "add layer": Case(
        operation="volume_snapshot_create",
        prepare=lambda scene: None,
        order=lambda scene, asked: scene.client.volume_snapshot_create(scene.guest.uuid, _DISK, scene.copy_id, asked),
        check=_is_layered,
    ),
    "delete layer": Case(
        operation="volume_snapshot_delete",
        prepare=_write_to_layer,
        order=lambda scene, asked: scene.client.volume_snapshot_delete(scene.guest.uuid, _DISK, scene.copy_id, asked),
        check=lambda scene: has_no_layer(scene, scene.guest.uuid),
    ),
    "revert to layer": Case(
        operation="volume_snapshot_revert",
        prepare=_layer_of_stopped,
        order=lambda scene, asked: scene.client.volume_snapshot_revert(scene.other.uuid, _DISK, scene.copy_id, asked),
        check=lambda scene: _has_one(scene, scene.other.uuid) and _lose_layer(scene, scene.other.uuid),
    ),
}
