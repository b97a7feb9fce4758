"""An initial ramdisk of three parts: a script, the busybox that runs it, and kernel modules in their order."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sandbox.commands import run
from sandbox.images import linux
from sandbox.images.cache import built

_BUSYBOX = Path("/bin/busybox")


def initramfs(name: str, named_in: Path, init: Path, tree: Path, modules: Sequence[str]) -> Path:
    """``/init``, ``/busybox`` and ``/modules/NN-*.ko`` for the kernel in a `kernel_tree`.

    `name` is the cache's; `named_in` is the source file that lists the modules.
    """
    recipe = [Path(__file__), named_in, init, _BUSYBOX, tree / "vmlinuz"]
    return built(name, recipe, partial(_pack, init, tree, modules)) / "ramdisk.img"


def _pack(init: Path, tree: Path, modules: Sequence[str], directory: Path) -> None:
    root = directory / "root"
    (root / "modules").mkdir(parents=True)
    shutil.copy(init, root / "init")
    shutil.copy(_BUSYBOX, root / "busybox")
    for number, module in enumerate(_in_order(tree, modules)):
        shutil.copy(module, root / "modules" / f"{number:02}-{module.name}")
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    ramdisk = directory / "ramdisk.img"
    run("cpio", "--quiet", "--create", "--format=newc", f"--file={ramdisk}", cwd=root, stdin=names)
    shutil.rmtree(root)


def _in_order(tree: Path, modules: Sequence[str]) -> list[Path]:
    """The modules and those that they need, each after what it needs."""
    find = ["modprobe", "-d", str(tree / "root"), "-S", linux.version(tree), "--show-depends"]
    found: dict[Path, None] = {}
    for name in modules:
        for line in run(*find, name).splitlines():
            verb, _, module = line.strip().partition(" ")
            if verb == "insmod":
                found[Path(module)] = None
    return list(found)
