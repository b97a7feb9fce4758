"""Directories with short names, and a hypervisor's settings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.virt.settings import VirtSettings


@pytest.fixture
def directory() -> Iterator[Path]:
    """pytest's own would be too long for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="ca-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(directory: Path) -> VirtSettings:
    return VirtSettings(
        state_dir=directory / "state", run_dir=directory / "run", accelerator="tcg", confine_guests=False
    )
