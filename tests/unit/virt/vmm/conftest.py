from __future__ import annotations

from tests.unit.virt.vmm.counting_machine import here, there
from tests.unit.virt.vmm.parts import parts

__all__ = ["here", "parts", "there"]
