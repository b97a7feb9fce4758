"""How far a driver has come with its device, and what both have agreed on.

Source: virtio 1.2, 2.1 (device status field), 2.2 (feature bits), 3.1 (initialization).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from compute_agent.errors import DeviceError, MachineError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.process_log import say
from compute_agent.virt.vmm.virtio.device import VERSION_1, VirtioDevice
from compute_agent.virt.vmm.virtio.queue import NO_CALL, Queue, QueueState

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 0x01, 0x02, 0x04, 0x08, 0x40, 0x80
_OF_THE_DRIVER = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED


class AgreementState(msgspec.Struct, frozen=True):
    """What survives a suspension; `device` is what the device itself has to remember."""

    status: int
    features: int
    generation: int
    queues: list[QueueState]
    device: Mapping[str, int]


class Agreement:
    """Starts and stops the device as the driver says."""

    def __init__(self, device: VirtioDevice, ram: GuestRam, tell: Callable[[], None]) -> None:
        """:param tell: interrupts the guest because of a change of the configuration or status."""
        self.device = device
        self._ram = ram
        self._tell = tell
        sizes = enumerate(device.queue_sizes)
        self.queues = [Queue.new(number, size, device.has_notifier(number)) for number, size in sizes]
        self.status = 0
        self.features = 0
        self.generation = 0
        """Counts the changes of the device's configuration."""
        self._is_running = False
        self._has_complained = False

    @property
    def is_alive(self) -> bool:
        """The driver has taken the device over, and is not asked to reset it."""
        return self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK

    def set_status(self, value: int) -> None:
        """What the driver writes. It cannot take a step back, only begin again."""
        if value == 0:
            self.reset()
            return
        before = self.status
        self.status |= value & _OF_THE_DRIVER
        if not before & FEATURES_OK and not self._are_features_good():
            self.status &= ~FEATURES_OK
        if not self.status & FEATURES_OK:
            self.status &= ~DRIVER_OK
        self.resume()

    def set_features(self, value: int) -> None:
        """What the driver wants; nothing changes once it has been agreed on."""
        if not self.status & FEATURES_OK:
            self.features = value

    def notified(self, number: int) -> None:
        """There is work in a queue that is served here."""
        if self._is_running and number < len(self.queues) and self.queues[number].is_enabled:
            try:
                self.device.notified(self.queues[number])
            except MachineError as error:
                self.fail(error)

    def set_call(self, queue: Queue, fd: int) -> None:
        """Which eventfd interrupts."""
        queue.call = fd
        if self._is_running and queue.is_enabled:
            try:
                self.device.call_changed(queue)
            except MachineError as error:
                self.fail(error)

    def change_log(self) -> None:
        """The memory has a log now, or has none any more.

        :raises DeviceError: who serves the device keeps none.
        """
        if self._is_running:
            self.device.log_changed()

    def change_configuration(self) -> None:
        """The device has another configuration now: let the driver read it."""
        self.generation = self.generation + 1 & 0xFF
        if self.status & DRIVER_OK:
            self._tell()

    def resume(self) -> None:
        """Serve the driver, if it wants to be. May be repeated."""
        if not self.is_alive or self._is_running:
            return
        try:
            for address, length in (part for queue in self.queues if queue.is_enabled for part in queue.parts):
                self._ram.read(address, length)
            self.device.start(self.queues, self.features)
            self._is_running = True
        except MachineError as error:
            self.fail(error)

    def pause(self) -> None:
        """Touch the guest's memory no more, until `resume`. May be repeated.

        :raises DeviceError: where to go on is not known.
        """
        if self._is_running:
            self._is_running = False
            self.device.stop(self.queues)

    def fail(self, reason: Exception) -> None:
        """The device serves no more: the driver is to reset it."""
        self._complain("needs a reset", reason)
        self._stop()
        self.status |= NEEDS_RESET
        self._tell()

    def reset(self) -> None:
        """As after power-on."""
        self._stop()
        self.status = self.features = 0
        for queue in self.queues:
            queue.reset()
        self.device.was_reset()

    def state(self) -> AgreementState:
        """While it is paused."""
        queues = [queue.state() for queue in self.queues]
        return AgreementState(self.status, self.features, self.generation, queues, self.device.state())

    def restore(self, state: AgreementState) -> None:
        """It is paused.

        :raises DeviceError: it was another kind of device; nothing was restored.
        """
        if state.features & ~self.device.features or len(state.queues) != len(self.queues):
            raise DeviceError(f"this {self.device.type.name.lower()} device can do less than the one before")
        self.status, self.features, self.generation = state.status, state.features, state.generation
        for queue, queue_state in zip(self.queues, state.queues, strict=True):
            queue.restore(queue_state)
            queue.call = NO_CALL
        self.device.restore(state.device)

    def close(self) -> None:
        """Gone for good. May be repeated."""
        self._stop()
        self.device.close()
        for queue in self.queues:
            queue.close()

    def _are_features_good(self) -> bool:
        if self.features & ~self.device.features or not self.features & VERSION_1:
            return False
        return self.device.accepts(self.features)

    def _stop(self) -> None:
        try:
            self.pause()
        except MachineError as error:
            self._complain("was stopped at an unknown place", error)

    def _complain(self, what: str, why: Exception) -> None:
        """Only once: a guest could go on and on."""
        if not self._has_complained:
            say(f"a {self.device.type.name.lower()} device {what}: {why}")
        self._has_complained = True
