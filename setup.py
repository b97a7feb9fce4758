"""The binding to KVM is C, and is compiled here; all else is in setup.cfg."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError

_NEEDED = {
    "gcc": lambda: shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]),
    "python3-dev": lambda: Path(sysconfig.get_path("include"), "Python.h").exists(),
    "libc6-dev": lambda: Path("/usr/include/stdio.h").exists(),
    "linux-libc-dev": lambda: Path("/usr/include/linux/kvm.h").exists(),
}
"""Debian's packages, and whether what is used of them is there."""


class BuildBinding(build_ext):
    """Says what to install where it cannot be compiled."""

    def build_extension(self, extension):
        try:
            super().build_extension(extension)
        except (CompileError, ExecError, PlatformError) as error:
            missing = [package for package, is_there in _NEEDED.items() if not is_there()]
            if not missing:
                raise
            raise SystemExit(f"compute-agent's binding to KVM needs: apt-get install {' '.join(missing)}") from error


setup(cffi_modules=["compute_agent/virt/kvm/builder.py:make_builder"], cmdclass={"build_ext": BuildBinding})
