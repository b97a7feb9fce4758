"""A small ISO 9660 image with long names, both Rock Ridge's (Linux) and Joliet's (Windows)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from pycdlib import PyCdlib


def write_iso(volume_id: str, files: Mapping[str, bytes], path: Path) -> None:
    """Write the image; it differs from the next one of the same files by its time stamps only."""
    iso = PyCdlib()
    iso.new(interchange_level=3, vol_ident=volume_id, joliet=3, rock_ridge="1.09")
    for index, (name, content) in enumerate(files.items()):
        iso.add_fp(io.BytesIO(content), len(content), f"/FILE{index}.;1", rr_name=name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()
