"""What block nodes are called that both QEMU's and a block server's disks may have."""

from __future__ import annotations

import hashlib


def layer_name(top: str, layer: str) -> str:
    """The format node of a snapshot's overlay: of its own for as long as it lives, whatever comes above or below."""
    # QEMU takes no name of more than 31 characters; the longest here is disk99.b-0123456789ab-storage.
    return f"{top}-{hashlib.blake2b(layer.encode(), digest_size=6).hexdigest()}"
