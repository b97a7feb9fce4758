"""The devices in a machine's slots, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TypeVar

from compute_agent.errors import DeviceError, MonitorError
from compute_agent.virt.vmm.chipset import Chipset
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.device import VirtioDevice
from compute_agent.virt.vmm.virtio.pci import Notifiers, VirtioPci, VirtioPciState

D = TypeVar("D", bound=VirtioDevice)


class Slots:
    """The chipset's lock is held while any of them is touched."""

    def __init__(self, chipset: Chipset, ram: GuestRam, interrupts: Interrupts, notifiers: Notifiers) -> None:
        self._chipset = chipset
        self._ram = ram
        self._interrupts = interrupts
        self._notifiers = notifiers
        self._names: dict[str, int] = {}
        self._functions: dict[str, VirtioPci] = {}

    def add(self, name: str, slot: int, device: VirtioDevice) -> None:
        """Put a device into a slot, which owns it from now on; closed if this raises.

        :raises MonitorError: the name is in use.
        :raises InsufficientResources: the slot is, or no interrupt is left.
        """
        with self._chipset.lock, ExitStack() as in_vain:
            in_vain.callback(device.close)
            if name in self._names:
                raise MonitorError(f"Duplicate device ID '{name}'")
            function = VirtioPci(device, self._ram, self._interrupts, self._notifiers)
            in_vain.callback(function.close)
            self._names[name] = self._chipset.bus.add(function, slot)
            self._functions[name] = function
            in_vain.pop_all()

    def announce(self, name: str) -> None:
        """Let a guest that runs find what was added."""
        with self._chipset.lock:
            self._chipset.hot_plug.announce(self._names[name])

    def ask_for(self, name: str) -> None:
        """Let the guest give a device up; `eject` follows, if ever.

        :raises MonitorError: there is none of this name.
        """
        with self._chipset.lock:
            self.function(name)
            self._chipset.hot_plug.ask_for(self._names[name])

    def eject(self, slot: int) -> str | None:
        """Take out what is in a slot: its name, if it has one."""
        name = next((name for name, taken in self._names.items() if taken == slot), None)
        if name is not None:
            self._chipset.bus.remove(self._names.pop(name))
            self._functions.pop(name).close()
        return name

    def names(self) -> list[str]:
        """Of all that is in a slot."""
        return list(self._names)

    def function(self, name: str) -> VirtioPci:
        """:raises MonitorError: there is none of this name."""
        if name not in self._functions:
            raise MonitorError(f"Device '{name}' not found")
        return self._functions[name]

    def devices(self, kind: type[D]) -> Iterator[tuple[str, D]]:
        """Names and devices of one kind."""
        for name, function in list(self._functions.items()):
            if isinstance(function.agreement.device, kind):
                yield name, function.agreement.device

    def pause(self) -> None:
        """Let nobody touch the guest's memory.

        :raises DeviceError: where a device has stopped is not known; all are stopped.
        """
        failures = []
        with self._chipset.lock:
            for name, function in self._functions.items():
                try:
                    function.agreement.pause()
                except DeviceError as error:
                    failures.append(f"{name}: {error}")
        if failures:
            raise DeviceError("; ".join(failures))

    def resume(self) -> None:
        """Serve the guest's drivers again."""
        with self._chipset.lock:
            for function in self._functions.values():
                function.agreement.resume()

    def change_log(self) -> None:
        """The memory has a log now, or has none any more.

        :raises DeviceError: who serves a device keeps none; others may do so.
        """
        with self._chipset.lock:
            for name, function in self._functions.items():
                try:
                    function.agreement.change_log()
                except DeviceError as error:
                    raise DeviceError(f"{name}: {error}") from error

    def states(self) -> Mapping[str, VirtioPciState]:
        """While they are paused."""
        return {name: function.state() for name, function in self._functions.items()}

    def restore(self, states: Mapping[str, VirtioPciState]) -> None:
        """While they are paused; of the same devices.

        :raises DeviceError: they are not.
        """
        if states.keys() != self._functions.keys():
            raise DeviceError(f"the machine that was saved had the devices {', '.join(sorted(states))}")
        for name, state in states.items():
            self._functions[name].restore(state)
