"""The binding to KVM is C, and is compiled here; all else is in setup.cfg."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError

_HEADERS = {
    "libc6-dev": Path("/usr/include/stdio.h"),
    "linux-libc-dev": Path("/usr/include/linux/kvm.h"),
    "python3-dev": Path(sysconfig.get_path("include"), "Python.h"),
}
"""What is used of Debian's packages."""


class BuildBinding(build_ext):
    """Says what to install where the binding cannot be compiled."""

    def build_extension(self, extension: Extension) -> None:
        """:raises SystemExit: something is not installed."""
        try:
            super().build_extension(extension)
        except (CompileError, ExecError, PlatformError) as error:
            missing = list(self._missing_packages())
            if not missing:
                raise
            raise SystemExit(f"To compile its binding to KVM, compute-agent needs: {' '.join(missing)}") from error

    def _missing_packages(self) -> Iterator[str]:
        if not shutil.which(self.compiler.compiler_so[0]):
            yield "gcc"
        yield from (package for package, header in _HEADERS.items() if not header.exists())


setup(cffi_modules=["compute_agent/virt/kvm/builder.py:make_builder"], cmdclass={"build_ext": BuildBinding})
