"""A network device whose packets go between its queues and a tap within the kernel.

Source: virtio 1.2, 5.1 (network device), 5.1.6.5.5 (multiqueue).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.device import VERSION_1, DeviceType, VirtioDevice
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.ring import Ring
from compute_agent.virt.vmm.virtio.tap import Tap, reverse_arp
from compute_agent.virt.vmm.virtio.vhost import give_queue
from compute_agent.virt.vmm.virtio.vhost_kernel import VhostNetServer

_QUEUE_SIZE, _CONTROL_QUEUE_SIZE = 256, 64

_CHECKSUM, _GUEST_CHECKSUM, _MTU, _MAC = 1 << 0, 1 << 1, 1 << 3, 1 << 5
_GUEST_TSO4, _GUEST_TSO6, _GUEST_ECN = 1 << 7, 1 << 8, 1 << 9
_HOST_TSO4, _HOST_TSO6, _HOST_ECN = 1 << 11, 1 << 12, 1 << 13
_MERGED_BUFFERS, _CONTROL, _MULTIQUEUE = 1 << 15, 1 << 17, 1 << 22
_INDIRECT, _EVENT_INDEX = 1 << 28, 1 << 29
_OF_VHOST = _MERGED_BUFFERS | _INDIRECT | _EVENT_INDEX | VERSION_1
_OF_TAP = _CHECKSUM | _GUEST_CHECKSUM | _GUEST_TSO4 | _GUEST_TSO6 | _GUEST_ECN | _HOST_TSO4 | _HOST_TSO6 | _HOST_ECN
_OFFLOADS = {_GUEST_CHECKSUM: 0x01, _GUEST_TSO4: 0x02, _GUEST_TSO6: 0x04, _GUEST_ECN: 0x08}
"""TUN_F_… for each."""

_ADDRESS_SIZE = 6
_SET_PAIRS = (4, 0)
_COMMAND = struct.Struct("<BBH")
_DONE, _REFUSED = b"\0", b"\1"


class Pair(msgspec.Struct):
    """A receive and a transmit queue, and who serves them."""

    tap: Tap
    server: VhostNetServer
    is_running: bool = False

    def start(self, queues: Sequence[Queue], features: int) -> None:
        """:raises DeviceError: it cannot be."""
        self.tap.attach(True)
        self.server.set_features(features)
        self.server.share_memory()
        self.is_running = True
        for number, queue in enumerate(queues):
            give_queue(self.server, number, queue)
            self.server.serve(number, self.tap.fd)
            queue.wake()

    def stop(self, queues: Sequence[Queue]) -> None:
        """Each `Queue.next` is where to go on. May be repeated."""
        if self.is_running:
            self.is_running = False
            for number, queue in enumerate(queues):
                queue.next = self.server.stop(number)

    def change_log(self, queues: Sequence[Queue], features: int) -> None:
        """:raises DeviceError: it cannot be."""
        if self.is_running:
            self.server.set_features(features)
            for number, queue in enumerate(queues):
                self.server.set_addresses(number, queue)

    def close(self) -> None:
        """May be repeated."""
        self.tap.close()
        self.server.close()


class VhostNet(VirtioDevice):
    """With several pairs, the driver chooses how many are in use; one at first.

    :raises DeviceError: vhost or the tap does not do.
    """

    type = DeviceType.NETWORK

    def __init__(self, taps: Sequence[int], vhosts: Sequence[int], mac: bytes, mtu: int, ram: GuestRam) -> None:
        """It owns the descriptors once it is made: for each pair a queue of the tap and an open /dev/vhost-net.

        :param mac: 6 bytes.
        """
        self._ram = ram
        servers = [VhostNetServer(vhost, ram) for vhost in vhosts]
        self._pairs = [Pair(Tap(tap), server) for tap, server in zip(taps, servers, strict=True)]
        self._is_multiqueue = len(self._pairs) > 1
        self._in_use = 1
        self._queues: Sequence[Queue] = ()
        self._features = 0
        self._configuration = mac + struct.pack("<HHH", 0, len(self._pairs), mtu)
        self.features = _OF_TAP | _MAC | _MTU | _OF_VHOST & servers[0].features
        self.queue_sizes = [_QUEUE_SIZE] * (2 * len(self._pairs))
        if self._is_multiqueue:
            self.features |= _MULTIQUEUE | _CONTROL
            self.queue_sizes.append(_CONTROL_QUEUE_SIZE)

    def has_notifier(self, queue: int) -> bool:
        return queue < 2 * len(self._pairs)

    def accepts(self, features: int) -> bool:
        """The control queue would have another number without several pairs, and nothing to do."""
        return bool(features & _CONTROL) == bool(features & _MULTIQUEUE)

    def configuration(self) -> bytes:
        return self._configuration

    def start(self, queues: Sequence[Queue], features: int) -> None:
        self._queues, self._features = queues, features
        offloads = sum(flag for feature, flag in _OFFLOADS.items() if features & feature)
        for pair in self._pairs:
            pair.tap.prepare(offloads)
        try:
            self._run(self._in_use)
        except DeviceError:
            self.stop(queues)
            raise

    def stop(self, queues: Sequence[Queue]) -> None:
        for number, pair in enumerate(self._pairs):
            pair.stop(queues[2 * number : 2 * number + 2])

    def was_reset(self) -> None:
        self._in_use = 1

    def call_changed(self, queue: Queue) -> None:
        number, which = divmod(queue.number, 2)
        if number < len(self._pairs) and self._pairs[number].is_running:
            self._pairs[number].server.set_call(which, queue.call)

    def log_changed(self) -> None:
        for number, pair in enumerate(self._pairs):
            pair.change_log(self._queues[2 * number : 2 * number + 2], self._features)

    def announce(self) -> None:
        """Have the switch learn where the guest's address is now: send a packet as if the guest had.

        :raises DeviceError: the tap does not take it.
        """
        self._pairs[0].tap.send(reverse_arp(self._configuration[:_ADDRESS_SIZE]))

    def notified(self, queue: Queue) -> None:
        ring = Ring(self._ram, queue)
        for _ in range(queue.size):
            chain = ring.take()
            if chain is None:
                break
            done = self._obey(ring.read(chain, _COMMAND.size))
            ring.give_back(chain, ring.write(chain, _DONE if done else _REFUSED))
            queue.interrupt()

    def state(self) -> Mapping[str, int]:
        return {"pairs": self._in_use}

    def restore(self, state: Mapping[str, int]) -> None:
        self._in_use = min(max(1, state["pairs"]), len(self._pairs))

    def close(self) -> None:
        for pair in self._pairs:
            pair.close()

    def _obey(self, command: bytes) -> bool:
        if len(command) < _COMMAND.size:
            return False
        group, order, pairs = _COMMAND.unpack(command)
        if (group, order) != _SET_PAIRS or not 1 <= pairs <= len(self._pairs):
            return False
        self._run(pairs)
        return True

    def _run(self, in_use: int) -> None:
        """The first so many, and no others."""
        self._in_use = in_use
        for number, pair in enumerate(self._pairs):
            queues = self._queues[2 * number : 2 * number + 2]
            if number >= in_use:
                pair.stop(queues)
                pair.tap.attach(False)
            elif not pair.is_running and all(queue.is_enabled for queue in queues):
                pair.start(queues, self._features)
