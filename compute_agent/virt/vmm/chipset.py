"""What every machine has besides processors, memory, the serial port and the devices in its slots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import msgspec

from compute_agent.virt.vmm import fw_cfg, power, rtc
from compute_agent.virt.vmm.address_space import AddressSpace
from compute_agent.virt.vmm.fw_cfg import FwCfg, FwCfgState
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci import hotplug
from compute_agent.virt.vmm.pci.bus import Bus, BusState
from compute_agent.virt.vmm.pci.hotplug import HotPlug, HotPlugState
from compute_agent.virt.vmm.power import Power, PowerState, Timer
from compute_agent.virt.vmm.reset import add_reset_ports
from compute_agent.virt.vmm.rtc import Rtc, RtcState


class ChipsetState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    bus: BusState
    power: PowerState
    hot_plug: HotPlugState
    rtc: RtcState
    fw_cfg: FwCfgState | None


class Chipset:
    """Its ports and memory-mapped registers; `lock` is held during each access."""

    def __init__(
        self,
        interrupts: Interrupts,
        timer: Timer,
        *,
        reset: Callable[[], None],
        power_off: Callable[[], None],
        eject: Callable[[int], None],
    ) -> None:
        """The three are called on processors' threads, with the lock held; `eject` is told a slot."""
        self.lock = threading.RLock()
        self.ports, self.memory = AddressSpace(self.lock), AddressSpace(self.lock)
        self.bus = Bus(self.ports, self.memory, add_reset_ports(self.ports, reset))
        self.power = Power(interrupts.line(power.SCI_GSI), timer, power_off)
        self.hot_plug = HotPlug(self.power.tell_of_hot_plug, eject)
        self.rtc = Rtc()
        self._fw_cfg: FwCfg | None = None
        for ports, region in ((power.PORTS, self.power), (hotplug.PORTS, self.hot_plug), (rtc.PORTS, self.rtc)):
            self.ports.add(ports.start, len(ports), region)

    def add_firmware_files(self, ram: GuestRam, processors: int, files: Mapping[str, bytes]) -> None:
        """What the machine's firmware can ask for; once, before the machine runs."""
        self._fw_cfg = FwCfg(ram, processors, files)
        self.ports.add(fw_cfg.PORTS.start, len(fw_cfg.PORTS), self._fw_cfg)

    def reset(self) -> None:
        """As after power-on, and all devices in slots; the clock runs on."""
        with self.lock:
            self.hot_plug.reset()
            self.bus.reset()
            self.power.reset()

    def state(self) -> ChipsetState:
        """While the processors do not run."""
        firmware = self._fw_cfg.state() if self._fw_cfg else None
        return ChipsetState(self.bus.state(), self.power.state(), self.hot_plug.state(), self.rtc.state(), firmware)

    def restore(self, state: ChipsetState) -> None:
        """Of one made the same way."""
        self.bus.restore(state.bus)
        self.power.restore(state.power)
        self.hot_plug.restore(state.hot_plug)
        self.rtc.restore(state.rtc)
        if self._fw_cfg is not None and state.fw_cfg is not None:
            self._fw_cfg.restore(state.fw_cfg)
