"""What a message alone shows to be impossible about disks and the config drive, as far as types cannot say it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from compute_agent.instance.port_checks import check_ports

_MAX_KEY = 255
"""Characters of a metadata key; a YAML parser gives up on keys of more than 1024."""


def check_instance(instance: Instance) -> None:
    """:raises InvalidMessage: names the first field that is wrong, such as ``instance.block_devices[0].image``."""
    for index, device in enumerate(instance.block_devices):
        check_device(f"instance.block_devices[{index}]", device)
    _check_names(instance.block_devices)
    _check_boot(instance)
    _check_guest_data(instance)
    check_ports(instance.ports)


_NEEDED = {"image": ("image",), "blank": ("size_gb",), "volume": ("volume_id", "connection_info")}
_CONTRADICTING = {
    "image": ("volume_id", "connection_info"),
    "blank": ("image", "connection_info"),
    "volume": ("image", "backend", "size_gb"),
}


def check_device(field: str, device: BlockDevice) -> None:
    """:raises InvalidMessage: names the field within `field` that is missing, or is one too many."""
    kind = device.source_type
    if device.layers:
        raise InvalidMessage(f"{field}.layers", "…", "cannot be ordered: volume_snapshot_create adds them")
    for name in _NEEDED[kind]:
        if getattr(device, name) is None:
            raise InvalidMessage(f"{field}.{name}", None, f"is needed with source_type {kind}")
    for name in _CONTRADICTING[kind]:
        if (value := getattr(device, name)) is not None:
            shown = value if isinstance(value, str | int) else "…"
            raise InvalidMessage(f"{field}.{name}", shown, f"contradicts source_type {kind}")
    image = device.image
    if image is not None and not image.checksum and not image.url.startswith("rbd:"):
        raise InvalidMessage(f"{field}.image.checksum", image.checksum, "is needed of an image that is not in Ceph")


def _check_names(devices: Sequence[BlockDevice]) -> None:
    for name in ("device_name", "volume_id"):
        seen: set[str] = set()
        for index, device in enumerate(devices):
            value = getattr(device, name)
            if value in seen:
                raise InvalidMessage(f"instance.block_devices[{index}].{name}", value, "is used twice")
            if value is not None:
                seen.add(value)


def _check_boot(instance: Instance) -> None:
    seen: set[int] = set()
    for index, device in enumerate(instance.block_devices):
        if device.boot_index in seen:
            raise InvalidMessage(f"instance.block_devices[{index}].boot_index", device.boot_index, "is used twice")
        if device.boot_index is not None:
            seen.add(device.boot_index)
    full = any(device.source_type != "blank" for device in instance.block_devices)
    if instance.direct_boot is None and not full:
        raise InvalidMessage("instance.block_devices", [], "needs a disk with an image, a volume, or direct_boot")


def _check_guest_data(instance: Instance) -> None:
    if instance.user_data is not None:
        try:
            base64.b64decode(instance.user_data, validate=True)
        except (binascii.Error, ValueError) as error:
            # The value stays out of the answer: user data holds secrets.
            raise InvalidMessage("instance.user_data", "…", f"is not base64: {error}") from error
    for key in instance.metadata:
        if not 0 < len(key) <= _MAX_KEY:
            raise InvalidMessage("instance.metadata", key, f"keys have 1 to {_MAX_KEY} characters")
    if not instance.config_drive and (instance.user_data or instance.ssh_keys or instance.metadata):
        raise InvalidMessage("instance.config_drive", False, "user_data, ssh_keys and metadata need a config drive")
