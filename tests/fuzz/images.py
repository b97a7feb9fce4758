"""Images and volumes whose headers lie, up to the moment before QEMU would open them."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from compute_agent.errors import InvalidImage, StorageError
from compute_agent.instance.block_device import SourceFile
from compute_agent.storage.inspection import (
    MAX_VIRTUAL_SIZE,
    container_size,
    inspect,
    require_self_contained,
    virtual_size,
)
from tests.fuzz.headers import IMAGES
from tests.fuzz.mutation import spoil_bytes
from tests.fuzz.target import Case, Check, Target

_SOURCE = SourceFile(url="file:///images/x", checksum="sha256:" + "0" * 64)
_KINDS = ("qcow2", "qcow2", "raw", "kernel", "ramdisk")
_ASKED_OF_QEMU = 0.02
"""Of the images that are taken: starting it takes longer than all the rest."""
_PATIENCE = 5.0
_OTHER_FILES = 8
"""Where a qcow2 header has the place of the backing file's name; it is 0 where there is none."""
_FEATURES, _DATA_FILE = 72, 1 << 2


class Believing:
    """In the place of qemu-img, which would read the tables."""

    def check(self, path: Path) -> str | None:
        return None


@contextmanager
def _open() -> Iterator[Check]:
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="fuzz-") as file:
        path = Path(file.name)

        def check(case: Case) -> None:
            base = case.random.choice(IMAGES)
            content = spoil_bytes(case.random, base) if case.random.random() < 0.95 else case.random.randbytes(700)
            case.show((case.random.choice(_KINDS), content.rstrip(b"\0").hex()))
            path.write_bytes(content)
            _feed(case, path, content)

        yield check


def _feed(case: Case, path: Path, content: bytes) -> None:
    kind = case.random.choice(_KINDS)
    with suppress(StorageError):
        require_self_contained(path, "qcow2")
        _require_no_other_file(content)
    with suppress(StorageError):
        container_size(path)
    try:
        inspect(path, _SOURCE, kind, Believing())  # type: ignore[arg-type]
    except InvalidImage as error:
        assert error.field in ("url", "disk_format")
        assert str(error).isprintable() and len(str(error)) < 1000, repr(str(error))
        return
    if kind in ("qcow2", "raw"):
        assert 0 < virtual_size(path, kind) <= MAX_VIRTUAL_SIZE
    if kind == "qcow2":
        _require_no_other_file(content)
        if case.random.random() < _ASKED_OF_QEMU:
            _require_agreement(path)


def _require_no_other_file(content: bytes) -> None:
    """As the format's specification has it, read here once more."""
    magic, version, backing = struct.unpack_from(">4sIQ", content)
    assert magic == b"QFI\xfb" and backing == 0
    if version >= 3:
        assert not struct.unpack_from(">Q", content, _FEATURES)[0] & _DATA_FILE


def _require_agreement(path: Path) -> None:
    """QEMU sees the size that we see, and no other file; or refuses it."""
    command = ["qemu-img", "info", "--output=json", "-f", "qcow2", str(path)]
    try:
        told = subprocess.run(command, capture_output=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return  # `compute_agent.storage.qcow2.qemu_img` refuses what takes that long
    if told.returncode == 0:
        info: dict[str, Any] = json.loads(told.stdout)
        assert info["virtual-size"] == virtual_size(path, "qcow2")
        assert "backing-filename" not in info
        assert "data-file" not in info.get("format-specific", {}).get("data", {})


TARGET = Target(name="images", open=_open, weight=10, deadline=10.0)
