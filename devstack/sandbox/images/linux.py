"""Debian's kernels: unpacked from their packages, never installed."""

from __future__ import annotations

import lzma
import struct
from functools import partial
from pathlib import Path

from sandbox.commands import SandboxError, run, run_with_internet
from sandbox.images.cache import built

CLOUD = "linux-image-cloud-amd64"
"""For guests: small."""
STOCK = "linux-image-amd64"
"""For hosts: it has KVM, vhost-net, Open vSwitch, VFIO."""
_SECTOR, _SETUP_SECTORS, _PAYLOAD = 512, 0x1F1, 0x248
_UNPACKED_SIZE = 4
"""Bytes behind what is packed."""
_XZ_MAGIC = b"\xfd7zXZ\0"
"""The stock kernel is packed so, the one for clouds with lz4."""
_DOWNLOAD_TIMEOUT = 300.0


def kernel() -> Path:
    """The kernel itself, for a guest's direct boot."""
    return kernel_tree(CLOUD) / "vmlinuz"


def elf_kernel() -> Path:
    """The same as an ELF file."""
    return unpacked_kernel(CLOUD)


def kernel_tree(metapackage: str) -> Path:
    """A directory with ``vmlinuz`` and, below ``root/lib/modules``, the modules of one version."""
    return built(metapackage, [Path(__file__)], partial(_unpack, metapackage))


def unpacked_kernel(metapackage: str) -> Path:
    """The kernel as an ELF file, which QEMU starts as well: an emulated CPU takes 3 s to unpack the other."""
    packed = kernel_tree(metapackage) / "vmlinuz"
    return built(f"{metapackage}-elf", [Path(__file__), packed], partial(_unpack_kernel, packed)) / "vmlinux"


def version(tree: Path) -> str:
    """Of the kernel in a `kernel_tree`, as uname says it."""
    (modules,) = (tree / "root/lib/modules").iterdir()
    return modules.name


def _unpack_kernel(packed: Path, directory: Path) -> None:
    """Source: Linux's Documentation/arch/x86/boot.rst (setup_sects, payload_offset, payload_length)."""
    image = packed.read_bytes()
    begin, length = struct.unpack_from("<II", image, _PAYLOAD)
    begin += (image[_SETUP_SECTORS] + 1) * _SECTOR
    payload, kernel = directory / "payload", directory / "vmlinux"
    payload.write_bytes(image[begin : begin + length - _UNPACKED_SIZE])
    if image.startswith(_XZ_MAGIC, begin):
        kernel.write_bytes(lzma.LZMADecompressor().decompress(payload.read_bytes()))
    else:
        run("lz4", "-q", "-d", payload, kernel)
    payload.unlink()


def _unpack(metapackage: str, directory: Path) -> None:
    try:
        _download(metapackage, directory)
    except SandboxError:  # the lists are missing, or older than what the archive has now
        run_with_internet("apt-get", "update", "-q", seconds=_DOWNLOAD_TIMEOUT)
        _download(metapackage, directory)
    (package,) = directory.glob("*.deb")
    root = directory / "root"
    run("dpkg-deb", "--extract", package, root)
    package.unlink()
    (image,) = root.glob("boot/vmlinuz-*")
    image.rename(directory / "vmlinuz")
    run("depmod", "--basedir", root, image.name.removeprefix("vmlinuz-"))


def _download(metapackage: str, directory: Path) -> None:
    package = _image_package(metapackage)
    run_with_internet("apt-get", "download", "-q", package, cwd=directory, seconds=_DOWNLOAD_TIMEOUT)


def _image_package(metapackage: str) -> str:
    for line in run("apt-cache", "depends", metapackage).splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith("linux-image-"):
            return package
    raise SandboxError(f"{metapackage}: apt does not know it")
