"""A guest resets its machine in any of three ways, and never by accident."""

from __future__ import annotations

import pytest

from tests.unit.virt.vmm.parts import Parts


@pytest.mark.parametrize(("port", "value"), [(0xCF9, 0x06), (0xCF9, 0x0E), (0x64, 0xFE), (0x92, 0x01), (0x92, 0x03)])
def test_reset(parts: Parts, port: int, value: int) -> None:
    parts.ports.write(port, 1, value)
    assert parts.resets == ["reset"]


@pytest.mark.parametrize(("port", "value"), [(0xCF9, 0x02), (0x64, 0xD1), (0x64, 0x20), (0x92, 0x02)])
def test_no_reset(parts: Parts, port: int, value: int) -> None:
    parts.ports.write(port, 1, value)
    assert not parts.resets
    assert parts.ports.read(port, 1) == (2 if port == 0x92 else 0)
