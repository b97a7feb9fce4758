"""A guest that is one process on the kernel: it boots in seconds and does what tests ask on its command line."""

from __future__ import annotations

from pathlib import Path

from sandbox.images.initramfs import initramfs
from sandbox.images.linux import CLOUD, kernel_tree

_INIT = Path(__file__).with_name("busybox-init")
_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "button",
    "evdev",
)


def ramdisk() -> Path:
    """The initial ramdisk to go with `kernel`. Its command line is explained in ``busybox-init``."""
    return initramfs("ramdisk", Path(__file__), _INIT, kernel_tree(CLOUD), _MODULES)
