"""A machine: memory, processors, a chipset and what is in its slots, as its plan says. It is made stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from compute_agent.errors import MonitorError
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.vmm.boot.start import prepare_start
from compute_agent.virt.vmm.chipset import Chipset
from compute_agent.virt.vmm.exit_server import ExitServer
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.life import Life, Tell
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.moves import Moves
from compute_agent.virt.vmm.migration.tracking import Tracking
from compute_agent.virt.vmm.plan import NicPlan, Plan
from compute_agent.virt.vmm.processor_set import ProcessorSet
from compute_agent.virt.vmm.processors import Processors
from compute_agent.virt.vmm.run_state import RunState
from compute_agent.virt.vmm.saved_state import MachineState, read_state
from compute_agent.virt.vmm.serial import SerialPort
from compute_agent.virt.vmm.served_disks import ServedDisks
from compute_agent.virt.vmm.slots import Slots
from compute_agent.virt.vmm.virtio.rng import Rng
from compute_agent.virt.vmm.virtio.vhost_net import VhostNet

_RNG_SLOT = 1


class Machine:
    """`life` lets it run and stop; it keeps `compute_agent.virt.vmm.life.Hardware` for it.

    :raises KvmError: KVM refuses something.
    :raises InsufficientResources: the host has too little memory.
    :raises InvalidImage: of ``kernel``, ``ramdisk``, ``command_line`` or ``firmware``: it cannot be started.
    :raises DeviceError: nobody serves a disk, or a tap or vhost does not do.
    """

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.name = plan.name
        self._tell = tell
        self.life = Life(self, tell)
        self.ram = GuestRam(plan.memory, huge_pages=plan.huge_pages)
        device = Device()
        self._vm = device.create_vm()
        self._vm.create_interrupt_controllers()
        for number, region in enumerate(self.ram.regions):
            self._vm.set_memory(number, region.guest_address, self.ram.host_address(region), region.size)
        interrupts = Interrupts(self._vm)
        board = self._vm.create_board(plan.console_log)
        self.serial = SerialPort(board)
        self.chipset = Chipset(
            interrupts, board, reset=self.life.wish_for_reset, power_off=self.life.wish_for_power_off, eject=self._eject
        )
        self.slots = Slots(self.chipset, self.ram, interrupts, self._vm)
        tracking = Tracking(self._vm, self.ram, self.slots)
        self.moves = Moves(self, tracking, tell)
        self.disks = ServedDisks(self.slots, self.chipset.lock, self.ram, self.life, tell)
        self._furnish(plan)
        self._start = prepare_start(plan, self._vm, self.ram, self.chipset)
        self._set = ProcessorSet(device, self._vm, plan.vcpus, board)
        exits = ExitServer(self._set.shared, self.chipset.ports, self.chipset.memory, self.life.wish_for_reset)
        self.processors = Processors(self._set.vcpus, exits, self.life.wish_for_end)
        if plan.saved_state is None and not plan.is_incoming:
            self._start(self.ram, self._set.vcpus[0])
        else:
            self.life.become(RunState.INMIGRATE)

    def hold(self) -> None:
        """Let the processors stop soon; from any thread."""
        self.processors.hold()

    def stop(self) -> None:
        """Processors and devices: nothing changes the guest's memory when this returns.

        :raises DeviceError: it is so, but a device cannot go on.
        """
        self.processors.stop()
        self._set.stop_clock()
        self.slots.pause()

    def go(self) -> None:
        """Devices and processors.

        :raises MonitorError: the machine has to stand still.
        """
        self._require_free()
        self.slots.resume()
        self._set.start_clock()
        self.processors.go()

    def reset(self) -> None:
        """As after power-on; it is stopped.

        :raises MonitorError: the machine has to stand still; nothing was reset.
        """
        self._require_free()
        self._set.reset()
        self.serial.reset()
        self.chipset.reset()
        self._start(self.ram, self._set.vcpus[0])

    def press_power_button(self) -> None:
        """What the guest makes of it is its own affair."""
        with self.chipset.lock:
            self.chipset.power.press_button()
        self._tell("POWERDOWN", {})

    def add_nic(self, nic: NicPlan) -> None:
        """A network device, which owns the descriptors; closed if this raises. Raises as `ServedDisks.add`."""
        with ExitStack() as nobodys:
            for fd in (*nic.taps, *nic.vhosts):
                nobodys.callback(os.close, fd)
            mac = bytes.fromhex(nic.mac_address.replace(":", ""))
            device = VhostNet(nic.taps, nic.vhosts, mac, nic.mtu, self.ram)
            nobodys.pop_all()
        self.slots.add(nic.name, nic.slot, device)

    def load(self, fd: int) -> None:
        """Become what was saved, instead of beginning anew. The file is closed.

        :raises InvalidImage, RecordTooNew: as `read_state`.
        :raises DeviceError: it had other devices.
        """
        with os.fdopen(fd, "rb") as file:
            self.become(read_state(file, self.ram))

    def describe_processors(self) -> list[dict[str, object]]:
        """For ``query-cpus-fast``."""
        threads = self.processors.thread_ids()
        return [{"cpu-index": number, "thread-id": thread} for number, thread in enumerate(threads)]

    def statistics(self) -> Mapping[str, object]:
        """Exits of all processors, and what KVM counts."""
        return self._set.statistics()

    def state(self) -> MachineState:
        """All but its memory, while it stands still."""
        return MachineState(
            memory=self.ram.size,
            processors=self._set.state(),
            chipset=self.chipset.state(),
            serial=self.serial.state(),
            devices=self.slots.states(),
        )

    def become(self, state: MachineState) -> None:
        """What was that, and is paused; its memory is there already.

        :raises DeviceError: it had other devices.
        """
        self._set.restore(state.processors)
        self.serial.restore(state.serial)
        self.chipset.restore(state.chipset)
        self.slots.restore(state.devices)
        self.life.become(RunState.PAUSED)

    def _require_free(self) -> None:
        if self.life.state is RunState.INMIGRATE:
            raise MonitorError("the machine is not all here yet")
        if self.moves.carrier.holds_still:
            raise MonitorError("the machine is being saved, or sent to another host")

    def _furnish(self, plan: Plan) -> None:
        self.slots.add("rng", _RNG_SLOT, Rng(self.ram))
        for disk in plan.disks:
            self.disks.add(disk.name, disk.slot, socket.socket(fileno=disk.server))
        for nic in plan.nics:
            self.add_nic(nic)

    def _eject(self, slot: int) -> None:
        name = self.slots.eject(slot)
        if name is not None:
            self.disks.look_again()
            self._tell("DEVICE_DELETED", {"device": name, "path": f"/machine/peripheral/{name}"})
