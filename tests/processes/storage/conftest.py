"""The same images and directories as for the unit tests of storage."""

from __future__ import annotations

from tests.unit.storage.conftest import disks, qcow2_content, settings, sources

__all__ = ["disks", "qcow2_content", "settings", "sources"]
