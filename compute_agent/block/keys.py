"""What QEMU, and its storage daemon, need to encrypt: TLS with a key that both sides know (RFC 4279).

A client reads the key from its file when it is told of it, a server whenever somebody connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from compute_agent.block.dh_parameters import DH_PARAMETERS

CREDENTIALS = "migration-key"
"""The object that they know it by."""
Endpoint = Literal["client", "server"]
KEY_FILES = ("keys.psk", "dh-params.pem")
"""QEMU's names for them."""
_USER = "qemu"
"""QEMU's name for who knows the key."""


def key_files(key: str) -> Mapping[str, str]:
    """The content of `KEY_FILES`, by name, for a key of 32 bytes in hexadecimal."""
    return dict(zip(KEY_FILES, (f"{_USER}:{key}\n", DH_PARAMETERS), strict=True))


def credentials(directory: str, endpoint: Endpoint) -> Mapping[str, object]:
    """For ``object-add``; `directory` is where the process finds the files."""
    return {"qom-type": "tls-creds-psk", "id": CREDENTIALS, "dir": directory, "endpoint": endpoint}
