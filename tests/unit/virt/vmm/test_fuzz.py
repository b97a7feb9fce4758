"""A guest that writes nonsense to every register of every device at once hurts only itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.kvm.board import Board
from compute_agent.virt.vmm import fw_cfg, power, rtc
from compute_agent.virt.vmm.acpi.loader import acpi_files
from compute_agent.virt.vmm.fw_cfg import FwCfg
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci import hotplug
from compute_agent.virt.vmm.pci.bus import CONFIGURATION_PORTS, ECAM
from compute_agent.virt.vmm.pci.hotplug import HotPlug
from compute_agent.virt.vmm.power import Power
from compute_agent.virt.vmm.reset import KEYBOARD_PORT, SYSTEM_CONTROL_PORT
from compute_agent.virt.vmm.rtc import Rtc
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.rng import Rng
from tests.unit.virt.vmm.parts import MIB, Parts
from tests.unit.virt.vmm.virtio.driver import Driver

CARDS, BEFORE = 2, 1
"""Slots 1 and 2; what is on the bus before."""
ALL_PORTS = [
    *(*power.PORTS, *hotplug.PORTS, *rtc.PORTS, *fw_cfg.PORTS),
    *(*CONFIGURATION_PORTS, KEYBOARD_PORT, SYSTEM_CONTROL_PORT),
]


class Machine(Parts):
    """With everything that needs no server."""

    def assemble(self) -> None:
        self.power = Power(self.interrupts.line(power.SCI_GSI), Board(-1, -1), lambda: self.resets.append("off"))
        self.hot_plug = HotPlug(self.power.tell_of_hot_plug, self._eject)
        self.ports.add(power.PORTS.start, len(power.PORTS), self.power)
        self.ports.add(hotplug.PORTS.start, len(hotplug.PORTS), self.hot_plug)
        self.ports.add(rtc.PORTS.start, len(rtc.PORTS), Rtc())
        self.ports.add(fw_cfg.PORTS.start, len(fw_cfg.PORTS), FwCfg(self.ram, 2, acpi_files(2)))
        cards = [VirtioPci(Rng(self.ram), self.ram, self.interrupts, self.kvm) for _ in range(CARDS)]
        self.drivers = [Driver(self, card) for card in cards]
        for number, driver in enumerate(self.drivers):
            driver.set_up(address=0x100000 * (number + 1))

    def _eject(self, slot: int) -> None:
        if self.bus.function(0, slot, 0):
            device = self.bus.remove(slot)
            assert isinstance(device, VirtioPci)
            device.close()

    def take_apart(self) -> None:
        for driver in self.drivers:
            driver.device.close()


@contextmanager
def a_machine() -> Iterator[Machine]:
    with GuestRam(4 * MIB) as ram:
        machine = Machine(ram)
        machine.assemble()
        yield machine
        machine.take_apart()


_SIZES = st.sampled_from([1, 2, 4, 8])
_VALUES = st.one_of(
    st.sampled_from([0, 1, 2, 4, 0x82, 0xFF, 0x8000, 0xC0100000, 0x80000804]), st.integers(0, 2**64 - 1)
)
_PORT_ACCESS = st.tuples(st.just("port"), st.sampled_from(ALL_PORTS), _SIZES, _VALUES)
_WINDOW_ACCESS = st.tuples(st.just("memory"), st.integers(ECAM.start, ECAM.start + 0x18000), _SIZES, _VALUES)
_REGISTER_ACCESS = st.tuples(st.just("memory"), st.integers(0xC0010000, 0xC0025000), _SIZES, _VALUES)
_RAM_WRITE = st.tuples(st.just("ram"), st.integers(0x100000, 0x203000), _SIZES, _VALUES)


def eventfds() -> int:
    """What devices open; sockets that other tests' threads are about to close do not count."""
    return sum(is_eventfd(file) for file in Path("/proc/self/fd").iterdir())


def is_eventfd(file: Path) -> bool:
    try:
        return "eventfd" in str(file.readlink())
    except FileNotFoundError:
        return False


@given(st.lists(st.one_of(_PORT_ACCESS, _WINDOW_ACCESS, _REGISTER_ACCESS, _RAM_WRITE), max_size=80))
def test_whatever_a_guest_writes(accesses: list[tuple[str, int, int, int]]) -> None:
    before = eventfds()
    with a_machine() as machine:
        spaces = {"port": machine.ports, "memory": machine.memory}
        for kind, address, size, value in accesses:
            content = value & (1 << 8 * size) - 1
            if kind == "ram":
                machine.ram.write(address, content.to_bytes(size, "little"))
            else:
                spaces[kind].write(address, size, content)
                assert 0 <= spaces[kind].read(address, size) < 1 << 8 * size
        assert len(list(machine.bus)) <= CARDS + BEFORE
    assert not machine.kvm.connected
    assert not machine.kvm.notifiers
    assert not machine.kvm.messages
    assert eventfds() == before
