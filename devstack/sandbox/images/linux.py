"""Debian's kernel for clouds: unpacked from its package, never installed."""

from __future__ import annotations

from pathlib import Path

from sandbox.commands import SandboxError, run, run_with_internet
from sandbox.images.cache import built

_METAPACKAGE = "linux-image-cloud-amd64"
_DOWNLOAD_TIMEOUT = 300.0


def kernel() -> Path:
    """The kernel itself, for a direct boot."""
    return kernel_tree() / "vmlinuz"


def kernel_tree() -> Path:
    """A directory with ``vmlinuz`` and, below ``root/lib/modules``, the modules of one version."""
    return built("kernel", [Path(__file__)], _unpack)


def _unpack(directory: Path) -> None:
    try:
        _download(directory)
    except SandboxError:  # the lists are missing, or older than what the archive has now
        run_with_internet("apt-get", "update", "-q", seconds=_DOWNLOAD_TIMEOUT)
        _download(directory)
    (package,) = directory.glob("*.deb")
    root = directory / "root"
    run("dpkg-deb", "--extract", package, root)
    package.unlink()
    (image,) = root.glob("boot/vmlinuz-*")
    image.rename(directory / "vmlinuz")
    run("depmod", "--basedir", root, image.name.removeprefix("vmlinuz-"))


def _download(directory: Path) -> None:
    run_with_internet("apt-get", "download", "-q", _image_package(), cwd=directory, seconds=_DOWNLOAD_TIMEOUT)


def _image_package() -> str:
    for line in run("apt-cache", "depends", _METAPACKAGE).splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith("linux-image-"):
            return package
    raise SandboxError(f"{_METAPACKAGE}: apt does not know it")
