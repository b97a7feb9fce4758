"""A Debian for guests: installed from its packages into a directory, then turned into a disk.

Neither loop devices nor mounts of file systems are needed: every file system is written as a file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sandbox.commands import run, run_with_internet
from sandbox.images.cache import built

_HERE = Path(__file__).parent
_TREE = _HERE / "debian-tree"
_BOOT_MENU = _HERE / "debian-grub.cfg"
_FINISH = _HERE / "debian-finish"
_GRUB = Path("/usr/lib/grub/i386-pc")
_GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal")
"""All that the menu needs: GRUB looks for no others on the disk."""
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = (
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "linux-image-cloud-amd64",
    "lz4",
    "openssh-server",
    "python3-minimal",
    "qemu-guest-agent",
    "systemd-sysv",
    "udev",
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/i18n/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_BUILD_TIMEOUT = 900.0
_COMPRESSED = ("-c", "-W", "-m", "4", "-O", "qcow2", "-o", "compression_type=zstd")
"""A third of the size: an emulated host takes 20 s less to fetch and check it."""

# The disk, in MiB: a gap with the boot loader | the root file system
_GAP = 1
_DISK = 1024
_SECTOR = 512
_BOOT_CODE = 440
"""Bytes of the first sector; what follows is the table of partitions."""


def debian_image() -> Path:
    """A qcow2 disk of 1 GiB that boots from its own boot loader; see ``debian-tree`` for how it is set up."""
    recipe = [Path(__file__), _BOOT_MENU, _FINISH, *sorted(path for path in _TREE.rglob("*") if path.is_file())]
    return built("debian", recipe, _build) / "debian.qcow2"


def _build(directory: Path) -> None:
    root, disk = directory / "root", directory / "disk.raw"
    _install(root)
    _write_partitions(disk)
    _put(_root_partition(root, directory), disk, _GAP)
    _write_boot_loader(disk, directory)
    run("qemu-img", "convert", *_COMPRESSED, disk, directory / "debian.qcow2", seconds=_BUILD_TIMEOUT)
    disk.unlink()
    shutil.rmtree(root)


def _install(root: Path) -> None:
    """The configuration is there before the packages, so that the ramdisk is built once and rightly."""
    run_with_internet(
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(_PACKAGES)}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        f"--essential-hook=copy-in {' '.join(str(path) for path in _TREE.iterdir())} /",
        f"--customize-hook=upload {_FINISH} /finish",
        '--customize-hook=mkdir -p "$1/boot/grub"',
        f"--customize-hook=upload {_BOOT_MENU} /boot/grub/grub.cfg",
        '--customize-hook=chmod +x "$1/finish" && chroot "$1" /finish && rm "$1/finish"',
        "bookworm",
        root,
        _MIRROR,
        seconds=_BUILD_TIMEOUT,
    )


def _write_partitions(disk: Path) -> None:
    _make_empty(disk, _DISK)
    run("sfdisk", "--quiet", disk, stdin=f"{_GAP}MiB,,83,*\n")


def _write_boot_loader(disk: Path, directory: Path) -> None:
    """As grub-install does, which needs a device and a mount: the boot code reads what is behind its own sector."""
    core = directory / "core.img"
    run("grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", core, *_GRUB_MODULES)
    with disk.open("r+b") as file:
        file.write((_GRUB / "boot.img").read_bytes()[:_BOOT_CODE])
        file.seek(_SECTOR)
        file.write(core.read_bytes())
    core.unlink()


def _root_partition(root: Path, directory: Path) -> Path:
    partition = directory / "root.ext4"
    _make_empty(partition, _DISK - _GAP)
    # Tables that are written later would be written by each guest, while it boots.
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=0", "-d", root, partition, seconds=300)
    return partition


def _make_empty(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)


def _put(partition: Path, disk: Path, offset: int) -> None:
    """Copy a partition to `offset` MiB of the disk, and remove it."""
    run("dd", f"if={partition}", f"of={disk}", "bs=1M", f"seek={offset}", "conv=notrunc,sparse", "status=none")
    partition.unlink()
