"""Names, numbers and addresses of the wire format: what msgspec checks while it decodes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

END = "$(?!\\n)"
"""The very end: Python's ``$`` alone also matches before a last newline."""

UUID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}" + END

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN, description="lower case, with hyphens")]
MacAddress = Annotated[str, Meta(pattern="^[0-9a-f]{2}(:[0-9a-f]{2}){5}" + END)]
BridgeName = Annotated[str, Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}" + END)]
Hostname = Annotated[str, Meta(pattern="^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?" + END)]
Checksum = Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})" + END)]
ChecksumOrNone = Annotated[str, Meta(pattern="^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|)" + END)]
Url = Annotated[str, Meta(pattern="^(file:///|https?://|rbd://)[^\\s]+" + END, max_length=4096)]
Rate = Annotated[int, Meta(ge=0, le=10**15)]
BurstLength = Annotated[int, Meta(ge=1, le=86400, description="seconds")]
DeviceName = Annotated[str, Meta(pattern="^disk(0|[1-9][0-9]?)" + END)]
NicName = Annotated[str, Meta(pattern="^net(0|[1-9][0-9]?)" + END)]
Backend = Literal["qcow2", "rbd"]
DiskBus = Literal["virtio", "scsi"]
CacheMode = Literal["none", "writeback", "writethrough", "directsync", "unsafe"]
Aio = Literal["io_uring", "native", "threads"]
DetectZeroes = Literal["off", "on", "unmap"]
OneLine = Annotated[str, Meta(pattern="^[^\\x00-\\x1f\\x7f]*" + END, max_length=2048)]


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value: compared by content, never changed in place."""
