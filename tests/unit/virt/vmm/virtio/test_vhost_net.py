"""What the kernel is told of a network device. A record is in its place: few hosts have vhost where tests run."""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.device import VERSION_1
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.vhost_kernel import Request
from compute_agent.virt.vmm.virtio.vhost_net import VhostNet
from compute_agent.virt.vmm.write_log import WriteLog
from tests.unit.virt.vmm.parts import MIB, Parts
from tests.unit.virt.vmm.virtio.driver import NEEDS_RESET, Driver, DriverQueue

MAC = bytes.fromhex("525400aabb01")
MULTIQUEUE, CONTROL, GUEST_CHECKSUM, GUEST_TSO4 = 1 << 22, 1 << 17, 1 << 1, 1 << 7
MERGED_BUFFERS, LOG_ALL = 1 << 15, 1 << 26
OFFLOAD, HEADER_SIZE, QUEUE = 0x400454D0, 0x400454D8, 0x400454D9
ATTACH, DETACH = 0x0200, 0x0400


class KernelRecord:
    """A fake: what would be told to vhost and to the tap, in order, by descriptor."""

    def __init__(self) -> None:
        self.told: dict[int, list[tuple[int, bytes]]] = {}
        self.refuses: int | None = None
        self.next = 0

    def ioctl(self, fd: int, request: int, argument: bytearray | bytes | int) -> int:
        if request == self.refuses:
            raise OSError(errno.EFAULT, "Bad address")
        content = argument.to_bytes(4, "little") if isinstance(argument, int) else bytes(argument)
        self.told.setdefault(fd, []).append((request, content))
        if isinstance(argument, bytearray) and request == Request.VHOST_GET_FEATURES:
            argument[:] = struct.pack("<Q", VERSION_1 | MERGED_BUFFERS | LOG_ALL)
        if isinstance(argument, bytearray) and request == Request.VHOST_GET_VRING_BASE:
            argument[4:] = struct.pack("<I", self.next)
        return 0

    def requests(self, fd: int) -> list[int]:
        return [request for request, _ in self.told.get(fd, [])]

    def values(self, fd: int, request: int, layout: str) -> list[tuple[int, ...]]:
        return [struct.unpack(layout, content) for one, content in self.told.get(fd, []) if one == request]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> KernelRecord:
    kernel = KernelRecord()
    monkeypatch.setattr("fcntl.ioctl", kernel.ioctl)
    return kernel


class Card:
    """The device, what stands for its descriptors, and its driver."""

    def __init__(self, parts: Parts, pairs: int) -> None:
        self.taps, self.vhosts = ([os.eventfd(0) for _ in range(pairs)] for _ in range(2))
        self.net = VhostNet(self.taps, self.vhosts, MAC, 1450, parts.ram)
        self.driver = Driver(parts, VirtioPci(self.net, parts.ram, parts.interrupts, parts.kvm))


@pytest.fixture
def card(parts: Parts, kernel: KernelRecord) -> Iterator[Card]:
    card = Card(parts, 1)
    yield card
    card.driver.device.close()


@pytest.fixture
def wide(parts: Parts, kernel: KernelRecord) -> Iterator[Card]:
    card = Card(parts, 3)
    yield card
    card.driver.device.close()


def test_what_a_driver_reads(card: Card) -> None:
    assert bytes(card.driver.configuration(place, 1) for place in range(6)) == MAC
    assert card.driver.configuration(10, 2) == 1450
    offered = card.driver.offered()
    assert offered & (VERSION_1 | MERGED_BUFFERS) == VERSION_1 | MERGED_BUFFERS
    assert not offered & (MULTIQUEUE | CONTROL | LOG_ALL)


def test_both_queues_are_given_to_vhost(parts: Parts, card: Card, kernel: KernelRecord) -> None:
    card.driver.set_up(VERSION_1 | MERGED_BUFFERS | GUEST_CHECKSUM | GUEST_TSO4, queues=2)
    (vhost,), (tap,) = card.vhosts, card.taps
    assert kernel.values(vhost, Request.VHOST_SET_FEATURES, "<Q") == [(VERSION_1 | MERGED_BUFFERS,)]
    (region,) = parts.ram.regions
    host = parts.ram.host_address(region)
    table = kernel.values(vhost, Request.VHOST_SET_MEM_TABLE, "<IIQQQQ")
    assert table == [(1, 0, 0, region.size, host, 0)]
    assert kernel.values(vhost, Request.VHOST_SET_VRING_NUM, "<II") == [(0, 256), (1, 256)]
    queues = card.driver.queues.values()
    assert kernel.values(vhost, Request.VHOST_SET_VRING_ADDR, "<IIQQQQ") == [
        (queue.number, 0, host + queue.descriptors, host + queue.used, host + queue.available, queue.used)
        for queue in queues
    ]
    ours = card.driver.device.agreement.queues
    assert kernel.values(vhost, Request.VHOST_SET_VRING_KICK, "<Ii") == [(0, ours[0].kick), (1, ours[1].kick)]
    assert kernel.values(vhost, Request.VHOST_SET_VRING_CALL, "<Ii") == [(0, ours[0].call), (1, ours[1].call)]
    assert kernel.values(vhost, Request.VHOST_NET_SET_BACKEND, "<Ii") == [(0, tap), (1, tap)]
    assert kernel.requests(vhost)[-1] == Request.VHOST_NET_SET_BACKEND
    assert kernel.told[tap] == [(HEADER_SIZE, struct.pack("<I", 12)), (OFFLOAD, struct.pack("<I", 3))]
    assert select.select([queue.kick for queue in ours], [], [], 0)[0]


def test_a_stopped_device_goes_on_where_it_was(card: Card, kernel: KernelRecord) -> None:
    card.driver.set_up(queues=2)
    kernel.next = 0x1_0007
    card.driver.device.agreement.pause()
    assert [queue.next for queue in card.driver.device.agreement.queues] == [7, 7]
    backends = kernel.values(card.vhosts[0], Request.VHOST_NET_SET_BACKEND, "<Ii")
    assert backends[2:] == [(0, -1), (1, -1)]
    card.driver.device.agreement.resume()
    assert kernel.values(card.vhosts[0], Request.VHOST_SET_VRING_BASE, "<II")[2:] == [(0, 7), (1, 7)]


def test_the_driver_chooses_how_many_pairs_are_in_use(wide: Card, kernel: KernelRecord) -> None:
    *_, control = wide.driver.set_up(VERSION_1 | MULTIQUEUE | CONTROL, queues=7, address=0x80000)
    assert [kernel.requests(tap).count(QUEUE) for tap in wide.taps] == [0, 1, 1]
    assert [Request.VHOST_NET_SET_BACKEND in kernel.requests(vhost) for vhost in wide.vhosts] == [True, False, False]
    assert order_pairs(control, 3) == 0
    assert all(Request.VHOST_NET_SET_BACKEND in kernel.requests(vhost) for vhost in wide.vhosts)
    assert wide.net.state() == {"pairs": 3}
    assert order_pairs(control, 2) == 0
    assert [flags for (flags,) in kernel.values(wide.taps[2], QUEUE, "<16xH22x")] == [DETACH, ATTACH, DETACH]
    assert kernel.values(wide.vhosts[2], Request.VHOST_NET_SET_BACKEND, "<Ii")[-1] == (1, -1)
    for nonsense in (0, 4, 0xFFFF):
        assert order_pairs(control, nonsense) == 1
    assert order_pairs(control, 1, group=1) == 1
    wide.driver.write(Register.STATUS, 1, 0)
    assert wide.net.state() == {"pairs": 1}


def order_pairs(control: DriverQueue, pairs: int, group: int = 4) -> int:
    *_, answer = control.add(struct.pack("<BB", group, 0), struct.pack("<H", pairs), 1)
    control.kick()
    control.wait()
    return control.ram.read(answer, 1)[0]


def test_a_control_queue_needs_several_pairs(wide: Card) -> None:
    assert not wide.driver.agree(VERSION_1 | CONTROL)
    assert wide.driver.agree(VERSION_1)
    assert wide.driver.agree(VERSION_1 | CONTROL | MULTIQUEUE)


def test_pairs_in_use_survive_a_suspension(wide: Card, kernel: KernelRecord) -> None:
    *_, control = wide.driver.set_up(VERSION_1 | MULTIQUEUE | CONTROL, queues=7, address=0x80000)
    assert order_pairs(control, 2) == 0
    wide.driver.device.agreement.pause()
    state = wide.driver.device.state()
    for told in kernel.told.values():
        told.clear()
    wide.driver.device.restore(state)
    wide.driver.device.agreement.resume()
    started = [Request.VHOST_NET_SET_BACKEND in kernel.requests(vhost) for vhost in wide.vhosts]
    assert started == [True, True, False]


@pytest.mark.parametrize("request_", [Request.VHOST_SET_MEM_TABLE, Request.VHOST_SET_VRING_ADDR, OFFLOAD])
def test_what_the_kernel_refuses_asks_for_a_reset(card: Card, kernel: KernelRecord, request_: int) -> None:
    kernel.refuses = request_
    card.driver.agree()
    for number in range(2):
        card.driver.set_queue(number, 0x100000 + 0x80000 * number)
    assert card.driver.go() & NEEDS_RESET
    kernel.refuses = None
    assert card.driver.set_up(queues=2)


def test_an_interrupt_that_moves_is_told_to_vhost(card: Card, kernel: KernelRecord) -> None:
    card.driver.set_up(queues=2)
    card.driver.write(Register.QUEUE_SELECT, 2, 1)
    card.driver.write(Register.QUEUE_VECTOR, 2, 0xFFFF)
    assert kernel.values(card.vhosts[0], Request.VHOST_SET_VRING_CALL, "<Ii")[-1] == (1, -1)


@given(st.lists(st.tuples(st.binary(max_size=6), st.integers(0, 3)), min_size=1, max_size=8))
def test_nothing_that_is_ordered_hurts(orders: list[tuple[bytes, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, GuestRam(4 * MIB) as ram:
        patch.setattr("fcntl.ioctl", KernelRecord().ioctl)
        card = Card(Parts(ram), 3)
        *_, control = card.driver.set_up(VERSION_1 | MULTIQUEUE | CONTROL, queues=7, address=0x80000)
        for order, room in orders:
            control.add(order, room)
            control.kick()
        assert len(control.finished()) == len(orders)
        assert 1 <= card.net.state()["pairs"] <= 3
        card.driver.device.close()


def test_what_is_not_vhost_is_refused(parts: Parts) -> None:
    tap, vhost = os.eventfd(0), os.eventfd(0)
    with pytest.raises(DeviceError, match="vhost refuses VHOST_GET_FEATURES"):
        VhostNet([tap], [vhost], MAC, 1500, parts.ram)
    for fd in (tap, vhost):
        os.close(fd)


def test_what_vhost_writes_is_logged_as_long_as_a_log_is_wanted(parts: Parts, wide: Card, kernel: KernelRecord) -> None:
    features = VERSION_1 | MULTIQUEUE | CONTROL
    wide.driver.set_up(features, queues=4)
    log = WriteLog(4 * MIB)
    used = [queue.used for queue in wide.driver.queues.values()]
    for vhost in wide.vhosts:
        kernel.told[vhost].clear()
    for wanted, flag, logged in ((log, 1, LOG_ALL), (None, 0, 0)):
        parts.ram.log = wanted
        wide.driver.device.agreement.change_log()
        assert kernel.values(wide.vhosts[0], Request.VHOST_SET_FEATURES, "<Q")[-1] == (VERSION_1 | logged,)
        queues = kernel.values(wide.vhosts[0], Request.VHOST_SET_VRING_ADDR, "<IIQQQQ")[-2:]
        assert [(queue[1], queue[5]) for queue in queues] == [(flag, used[0]), (flag, used[1])]
    first, *_ = kernel.requests(wide.vhosts[0])
    assert first == Request.VHOST_SET_LOG_BASE, "vhost looks at it before it takes the feature"
    assert kernel.values(wide.vhosts[0], Request.VHOST_SET_LOG_BASE, "<Q") == [(log.host_address,)]
    assert not kernel.told[wide.vhosts[1]], "its pair is not in use"
    log.close()


def test_the_network_hears_where_its_address_is(parts: Parts, kernel: KernelRecord) -> None:
    reading, tap = os.pipe()
    net = VhostNet([tap], [os.eventfd(0)], MAC, 1450, parts.ram)
    net.announce()
    frame = os.read(reading, 100)
    net.close()
    os.close(reading)
    assert frame[:12] == bytes(12), "no offload is wanted of it"
    assert frame[12:26] == b"\xff" * 6 + MAC + b"\x80\x35"
    assert frame[34:40] == frame[44:50] == MAC
    assert len(frame) == 12 + 60
