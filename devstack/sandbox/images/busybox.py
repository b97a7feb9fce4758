"""A guest that is one process on the kernel: it boots in seconds and does what tests ask on its command line."""

from __future__ import annotations

import shutil
from pathlib import Path

from sandbox.commands import run
from sandbox.images.cache import built
from sandbox.images.linux import kernel_tree

_BUSYBOX = Path("/bin/busybox")
_INIT = Path(__file__).with_name("busybox-init")
_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "button",
    "evdev",
)


def ramdisk() -> Path:
    """The initial ramdisk to go with `kernel`. Its command line is explained in ``busybox-init``."""
    recipe = [Path(__file__), _INIT, _BUSYBOX, kernel_tree() / "vmlinuz"]
    return built("ramdisk", recipe, _pack) / "ramdisk.img"


def _pack(directory: Path) -> None:
    root = directory / "root"
    modules = root / "modules"
    modules.mkdir(parents=True)
    shutil.copy(_INIT, root / "init")
    shutil.copy(_BUSYBOX, root / "busybox")
    for number, module in enumerate(_modules_in_order()):
        shutil.copy(module, modules / f"{number:02}-{module.name}")
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    ramdisk = directory / "ramdisk.img"
    run("cpio", "--quiet", "--create", "--format=newc", f"--file={ramdisk}", cwd=root, stdin=names)
    shutil.rmtree(root)


def _modules_in_order() -> list[Path]:
    """The modules and those that they need, each after what it needs."""
    tree = kernel_tree() / "root"
    (version,) = (path.name for path in (tree / "lib/modules").iterdir())
    found: dict[Path, None] = {}
    for name in _MODULES:
        for line in run("modprobe", "-d", tree, "-S", version, "--show-depends", name).splitlines():
            verb, _, module = line.strip().partition(" ")
            if verb == "insmod":
                found[Path(module)] = None
    return list(found)
