"""A scene of machines of our own on a KVM that can run no system: a firmware is all that runs in them."""

from __future__ import annotations

from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance
from tests.functional.guests import an_order, with_hypervisor
from tests.functional.idle_scene import IdleScene

_PAGE, _RESET_VECTOR = 4096, 0xFF0
_TO_THE_START = bytes.fromhex("e90df0")
_PROGRAM = """
    31c08ed88ed0bc0070c706200080f0c706220000f0    segments, a stack, and where the timer's interrupts lead
    b011e620b008e621b004e621b001e621b0fee621      a controller that lets them through
    b034e64330c0e640e640be87f0e8380031c931ed      a timer, 18 times a second; "GUEST READY"
    fbf441f7c1030075f745                          every four interrupts:
    be95f0e8240089e8e80800be9bf0e81900ebe3        "tick" and how many there were
    31d2bb0a00f7f35285c07403e8f1ff580430baf803eec3    a number, in decimal digits
    baf8032e8a044684c07403eeebf5c3                text, to the serial port
    50b020e62058cf                                what an interrupt does
"""
_TEXTS = b"GUEST READY\r\n\0tick \0\r\n\0"


def firmware(path: Path) -> Path:
    """In real mode: it counts aloud."""
    program = b"".join(bytes.fromhex(line.split()[0]) for line in _PROGRAM.strip().splitlines()) + _TEXTS
    path.write_bytes(program.ljust(_RESET_VECTOR, b"\0") + _TO_THE_START.ljust(_PAGE - _RESET_VECTOR, b"\0"))
    return path


class MachineScene(IdleScene):
    """Its guests count all the same."""

    def an_order(self, *devices: BlockDevice, arguments: str = "", config_drive: bool) -> Instance:
        """Without NICs, for those need vhost."""
        flavor = Flavor(vcpus=1, memory_mb=16)
        changes = {"direct_boot": None, "flavor": flavor, "block_devices": [self.root, *devices]}
        return with_hypervisor(an_order(ports=0, config_drive=config_drive, **changes), "vmm")

    def an_idle_order(self, *devices: BlockDevice) -> Instance:
        """None is busier than others."""
        return self.an_order(*devices, config_drive=False)
