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
_BOOT_LOADER = _HERE / "debian-syslinux.cfg"
_FINISH = _HERE / "debian-finish"
_MASTER_BOOT_RECORD = Path("/usr/lib/syslinux/mbr/mbr.bin")
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

# The disk, in MiB: a gap with the master boot record | a FAT with kernel and boot loader | the root file system
_GAP = 1
_BOOT = 63
_DISK = 1024


def debian_image() -> Path:
    """A qcow2 disk of 1 GiB that boots from its own boot loader; see ``debian-tree`` for how it is set up."""
    recipe = [Path(__file__), _BOOT_LOADER, _FINISH, *sorted(path for path in _TREE.rglob("*") if path.is_file())]
    return built("debian", recipe, _build) / "debian.qcow2"


def _build(directory: Path) -> None:
    root, disk = directory / "root", directory / "disk.raw"
    _install(root)
    _write_partitions(disk)
    _put(_boot_partition(root, directory), disk, _GAP)
    _put(_root_partition(root, directory), disk, _GAP + _BOOT)
    run("qemu-img", "convert", "-O", "qcow2", disk, directory / "debian.qcow2", seconds=_BUILD_TIMEOUT)
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
        '--customize-hook=chmod +x "$1/finish" && chroot "$1" /finish && rm "$1/finish"',
        "bookworm",
        root,
        _MIRROR,
        seconds=_BUILD_TIMEOUT,
    )


def _write_partitions(disk: Path) -> None:
    _make_empty(disk, _DISK)
    run("sfdisk", "--quiet", disk, stdin=f"{_GAP}MiB,{_BOOT}MiB,e,*\n{_GAP + _BOOT}MiB,,83\n")
    with disk.open("r+b") as file:
        file.write(_MASTER_BOOT_RECORD.read_bytes())


def _boot_partition(root: Path, directory: Path) -> Path:
    partition = directory / "boot.fat"
    (kernel,) = root.glob("boot/vmlinuz-*")
    (ramdisk,) = root.glob("boot/initrd.img-*")
    _make_empty(partition, _BOOT)
    run("mkfs.fat", partition)
    for source, name in ((kernel, "vmlinuz"), (ramdisk, "initrd.img"), (_BOOT_LOADER, "syslinux.cfg")):
        run("mcopy", "-i", partition, source, f"::{name}")
    run("syslinux", "--install", partition)
    return partition


def _root_partition(root: Path, directory: Path) -> Path:
    partition = directory / "root.ext4"
    _make_empty(partition, _DISK - _GAP - _BOOT)
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
