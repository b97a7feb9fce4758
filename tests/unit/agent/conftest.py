from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: each write of a journal waits for its disk, and a thousand agents are killed here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="agent-") as path:
        yield Path(path)
