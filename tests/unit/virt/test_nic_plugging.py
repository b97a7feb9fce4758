"""What a monitor is asked for when a NIC comes or goes, to the letter; tests with real guests show that it works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from compute_agent.errors import MonitorError
from compute_agent.instance.devices import Nic
from compute_agent.instance.machine import Machine
from compute_agent.virt.process.unplugging import Unplugging
from compute_agent.virt.qemu.nic_plugging import NicPlugging

MACHINE = Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator="tcg", cpu="max", slots={"net1": 5})
DEVICE = {"driver": "virtio-net-pci", "id": "net1", "netdev": "tap-net1", "romfile": "", "bus": "rp5", "addr": "0x0"}
DEVICE |= {"mac": "fa:16:3e:00:00:01", "host_mtu": 1450}
TAPS, VHOSTS = ["net1-tap0", "net1-tap1"], ["net1-vhost0", "net1-vhost1"]
BACKEND = {"type": "tap", "id": "tap-net1", "fds": ":".join(TAPS)}


class Monitor:
    """Has nothing at first; refuses what it is told to."""

    def __init__(self, refuses: str | None = None) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.named: dict[str, int] = {}
        self._refuses = refuses

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, fd: int | None = None) -> object:
        arguments = arguments or {}
        if fd is not None:
            self.named[arguments["fdname"]] = fd
            return {}
        self.asked.append((command, arguments))
        if command == self._refuses:
            raise MonitorError(f"{command}: no")
        if command in ("device_del", "netdev_del"):
            raise MonitorError(f"Device '{arguments['id']}' not found")
        if command == "netdev_add":
            self._take(arguments)
        if command == "closefd" and self.named.pop(arguments["fdname"], None) is None:
            raise MonitorError(f"File descriptor named '{arguments['fdname']}' not found")
        return {}

    def _take(self, backend: Mapping[str, Any]) -> None:
        for name in f"{backend['fds']}:{backend.get('vhostfds', '')}".split(":"):
            self.named.pop(name, None)


def a_nic(*vhost_fds: int) -> Nic:
    return Nic(name="net1", mac_address="fa:16:3e:00:00:01", mtu=1450, tap_fds=(11, 12), vhost_fds=vhost_fds)


def plugging(monitor: Monitor) -> NicPlugging:
    return NicPlugging(monitor.execute, Unplugging(monitor.execute, seconds=1.0))


def test_a_nic_comes_with_a_vhost_and_a_queue_of_its_tap_for_each_pair() -> None:
    monitor = Monitor()
    plugging(monitor).attach(a_nic(21, 22), MACHINE)
    assert monitor.asked == [
        ("netdev_add", BACKEND | {"vhost": True, "vhostfds": ":".join(VHOSTS)}),
        ("device_add", DEVICE | {"mq": True, "vectors": 6}),
    ]


def test_without_vhost_qemu_moves_the_packets() -> None:
    monitor = Monitor()
    plugging(monitor).attach(a_nic(), MACHINE)
    assert monitor.asked[0] == ("netdev_add", BACKEND)


@pytest.mark.parametrize("refused", ["netdev_add", "device_add"])
def test_of_a_nic_that_is_refused_nothing_is_left(refused: str) -> None:
    monitor = Monitor(refuses=refused)
    with pytest.raises(MonitorError, match=refused):
        plugging(monitor).attach(a_nic(21, 22), MACHINE)
    assert monitor.named == {}
    assert (("netdev_del", {"id": "tap-net1"}) in monitor.asked) is (refused == "device_add")


def test_what_was_handed_over_and_never_taken_goes_with_the_nic() -> None:
    monitor = Monitor()
    monitor.named = dict.fromkeys([*TAPS, *VHOSTS, "net11-tap0"], 7)
    plugging(monitor).detach("net1")
    assert monitor.named == {"net11-tap0": 7}
    assert [command for command, _ in monitor.asked[:2]] == ["device_del", "netdev_del"]
