"""TLS that the kernel does on a connection: whoever is handed its descriptor reads and writes as on any other.

Both sides have the same key, 32 random bytes that are used for one connection only. There is no handshake: what either
side encrypts with is derived from that. A record that somebody has changed is an error of the read.

Sources: Linux's Documentation/networking/tls.rst and <linux/tls.h>; RFC 5869 (HKDF-Expand); RFC 8446 (TLS 1.3 records).
"""

from __future__ import annotations

import errno
import hmac
import os
import socket
import struct
from typing import Literal

from compute_agent.errors import HostError

_ULP, _SOL_TLS, _TX, _RX = 31, 282, 1, 2
_NAME = b"tls"
_TLS_1_3, _AES_GCM_256 = 0x0304, 52
_CRYPTO = struct.Struct("<HH8s32s4s8s")
"""Version, cipher, the rest of the nonce, key, the beginning of the nonce, number of the first record."""
_SALT_SIZE = 4
_NO_SUPPORT = "this host's kernel has no TLS (module tls)"

Side = Literal["client", "server"]
_OTHER: dict[Side, Side] = {"client": "server", "server": "client"}


def find_problem() -> str | None:
    """Why this host's kernel cannot do that; None: it can."""
    with socket.socket() as unconnected:
        try:
            unconnected.setsockopt(socket.IPPROTO_TCP, _ULP, _NAME)
        except OSError as error:
            return None if error.errno == errno.ENOTCONN else f"{_NO_SUPPORT} ({error.strerror})"
    return None


def encrypt(connection: int, key: bytes, side: Side) -> None:
    """From now on what is sent is encrypted, and what comes in has to be. `side`: of a connected TCP socket, this one.

    :raises HostError: the kernel cannot; nothing is sent or taken.
    """
    with socket.socket(fileno=os.dup(connection)) as ours:
        try:
            ours.setsockopt(socket.IPPROTO_TCP, _ULP, _NAME)
            ours.setsockopt(_SOL_TLS, _TX, secrets_of(key, side))
            ours.setsockopt(_SOL_TLS, _RX, secrets_of(key, _OTHER[side]))
        except OSError as error:
            raise HostError(f"a connection cannot be encrypted: {error.strerror}: {_NO_SUPPORT}") from error


def secrets_of(key: bytes, side: Side) -> bytes:
    """What a side encrypts with, as a ``struct tls12_crypto_info_aes_gcm_256``."""
    nonce = _expand(key, f"{side} nonce")
    return _CRYPTO.pack(
        _TLS_1_3, _AES_GCM_256, nonce[_SALT_SIZE:12], _expand(key, f"{side} key"), nonce[:_SALT_SIZE], bytes(8)
    )


def _expand(key: bytes, what: str) -> bytes:
    """32 bytes that tell nothing of the key, nor of what else is made of it."""
    return hmac.digest(key, f"compute-agent {what}".encode() + b"\1", "sha256")
