from __future__ import annotations

from tests.unit.virt.vmm.parts import parts

__all__ = ["parts"]
