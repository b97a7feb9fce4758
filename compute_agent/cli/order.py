"""From the arguments of `boot` to the instance that is asked for.

What is not given (uuid, ids and MAC addresses of ports) is derived from the request id, so that the same command
line repeated with the same --request-id asks for the same instance.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import uuid
from pathlib import Path

import msgspec

from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.instance.model import Instance, Port

_FORMAT_OF_SUFFIX = {".qcow2": "qcow2", ".raw": "raw"}


def instance_from_arguments(arguments: argparse.Namespace) -> Instance:
    """The instance that options describe.

    :raises Failure: something is missing, cannot be read or cannot be meant.
    """
    derived = _Derived(arguments.request_id)
    return _checked(
        {
            "uuid": arguments.uuid or derived.uuid("instance"),
            "name": arguments.name,
            "flavor": {"vcpus": arguments.vcpus, "memory_mb": arguments.memory},
            "hostname": arguments.hostname,
            "block_devices": _block_devices(arguments),
            "ports": [derived.complete(port, number) for number, port in enumerate(arguments.port)],
            "direct_boot": _direct_boot(arguments),
            "config_drive": arguments.config_drive,
            "user_data": _user_data(arguments.user_data),
            "ssh_keys": [key for path in arguments.ssh_key for key in _ssh_keys(path)],
            "metadata": dict(arguments.metadata),
        }
    )


def instance_from_file(path: Path, request_id: str) -> Instance:
    """The instance in a JSON file, as RPC has it; its uuid may be left out.

    :raises Failure: it is no JSON, or no instance.
    """
    content = json_in(path, "--file ")
    if isinstance(content, dict):
        content.setdefault("uuid", _Derived(request_id).uuid("instance"))
    return _checked(content)


def json_in(path: Path, option: str = "") -> object:
    """What is in a JSON file, which `option` has named.

    :raises Failure: it is no JSON.
    """
    try:
        return msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise Failure(f"{option}{path}: {error}", "correct the JSON", ExitStatus.USAGE) from None


def port_from_arguments(port: dict[str, object], request_id: str) -> Port:
    """The port that `compute_agent.cli.arguments.port` has read.

    :raises Failure: it cannot be meant.
    """
    try:
        return msgspec.convert(_Derived(request_id).complete(port, 0), Port)
    except msgspec.ValidationError as error:
        raise Failure(f"port: {error}", "computectl help interface attach", ExitStatus.USAGE) from None


class _Derived:
    """Identifiers that follow from a request id."""

    def __init__(self, request_id: str) -> None:
        self._namespace = uuid.UUID(request_id)

    def uuid(self, name: str) -> str:
        return str(uuid.uuid5(self._namespace, name))

    def mac_address(self, name: str) -> str:
        """One of those that Neutron gives out."""
        tail = uuid.uuid5(self._namespace, name).bytes[:3]
        return "fa:16:3e:" + tail.hex(":")

    def complete(self, port: dict[str, object], number: int) -> dict[str, object]:
        """The port with an id and a MAC address."""
        name = f"port{number}"
        return {"id": self.uuid(name), "mac_address": self.mac_address(name)} | port


def _checked(content: object) -> Instance:
    try:
        return msgspec.convert(content, Instance)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = "instance" + path.removesuffix("`")
        raise Failure(f"{field}: {reason}", "computectl help boot", ExitStatus.USAGE) from None


def _block_devices(arguments: argparse.Namespace) -> list[dict[str, object]]:
    disks: list[dict[str, object]] = []
    if arguments.image is not None:
        image = {"source_type": "image", "image": _image(arguments), "size_gb": arguments.disk_size, "boot_index": 0}
        disks.append(image)
    elif arguments.disk_size is not None:
        raise _unusable("--disk-size", "is the size of --image's disk, which is not given", "use --blank GB")
    disks.extend({"source_type": "blank", "size_gb": size} for size in arguments.blank)
    return [disk | {"backend": arguments.backend} for disk in disks]


def _image(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "disk_format": arguments.image_format or _declared_format(arguments.image),
        **_source(arguments.image, arguments.image_checksum),
    }


def _declared_format(name: str) -> str:
    """A format is declared by the name's ending or by an option, never guessed from the content."""
    suffix = Path(name).suffix
    if suffix not in _FORMAT_OF_SUFFIX:
        raise _unusable("--image-format", f"{name} does not end in .qcow2 or .raw", "add --image-format qcow2 or raw")
    return _FORMAT_OF_SUFFIX[suffix]


def _source(name: str, checksum: str | None) -> dict[str, object]:
    """A file on the node, or an URL; a checksum that is not given is computed, for a file."""
    if name.startswith("rbd://"):
        return {"url": name, "checksum": checksum or ""}
    if re.match("https?://", name):
        if checksum is None:
            raise _unusable("--image-checksum", f"{name} needs one", "add --image-checksum sha256:…")
        return {"url": name, "checksum": checksum}
    path = Path(name.removeprefix("file://")).absolute()
    return {"url": path.as_uri(), "checksum": checksum or _checksum(path)}


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        advice = "give the path of a file here, or add --image-checksum for a file that only the node has"
        raise _unusable(str(path), f"cannot be read: {error.strerror}", advice) from None


def _direct_boot(arguments: argparse.Namespace) -> dict[str, object] | None:
    if arguments.kernel is None:
        if arguments.ramdisk is not None or arguments.append:
            raise _unusable("--kernel", "--ramdisk and --append need one", "add --kernel PATH")
        return None
    ramdisk = _source(str(arguments.ramdisk), None) if arguments.ramdisk else None
    return {
        "kernel": _source(str(arguments.kernel), None),
        "ramdisk": ramdisk,
        "command_line": arguments.append,
    }


def _user_data(path: Path | None) -> str | None:
    return None if path is None else base64.b64encode(path.read_bytes()).decode()


def _ssh_keys(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _unusable(option: str, reason: str, advice: str) -> Failure:
    return Failure(f"{option}: {reason}", advice, ExitStatus.USAGE)
