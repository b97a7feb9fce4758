"""What the hosts boot: Debian's stock kernel and a ramdisk that finds the machine's root."""

from __future__ import annotations

from pathlib import Path

from sandbox.images import linux
from sandbox.images.initramfs import initramfs

_INIT = Path(__file__).with_name("host-init")
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


def kernel() -> Path:
    """For QEMU's ``-kernel``."""
    return linux.unpacked_kernel(linux.STOCK)


def ramdisk() -> Path:
    """For QEMU's ``-initrd``."""
    return initramfs("host-ramdisk", Path(__file__), _INIT, _tree(), _MODULES)


def modules() -> Path:
    """The directory with all the kernel's modules."""
    return _tree() / "root/lib/modules" / linux.version(_tree())


def _tree() -> Path:
    return linux.kernel_tree(linux.STOCK)
