"""NICs that come and go while their guest runs.

Source: QEMU's qapi/net.json (netdev_add, netdev_del), qapi/misc.json (getfd).
"""

from __future__ import annotations

from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import Nic
from compute_agent.instance.machine import Machine
from compute_agent.virt.process.descriptors import close_left_over, handed_over, tap_descriptors, vhost_descriptors
from compute_agent.virt.process.unplugging import Unplugging
from compute_agent.virt.qemu.devices import backend_name, bus_of, later_nic_backend, nic_device

_NOT_THERE = " not found"
"""QEMU's words about a backend that it does not have."""


class NicPlugging:
    """The NICs of one running guest, over its monitor."""

    def __init__(self, execute: Execute, unplugging: Unplugging) -> None:
        self._execute = execute
        self._unplugging = unplugging

    def attach(self, nic: Nic, machine: Machine) -> None:
        """See the contract."""
        taps, vhosts = tap_descriptors(nic), vhost_descriptors(nic)
        with handed_over(self._execute, taps | vhosts):
            self._execute("netdev_add", later_nic_backend(nic.name, list(taps), list(vhosts)))
        try:
            self._execute("device_add", nic_device(nic) | bus_of(machine, nic.name))
        except MonitorError:
            self._remove_backend(nic.name)
            raise

    def detach(self, name: str) -> None:
        """See the contract."""
        self._unplugging.unplug(name)
        self._remove_backend(name)
        close_left_over(self._execute, name)

    def _remove_backend(self, nic: str) -> None:
        """Where there is one; its descriptors are closed."""
        try:
            self._execute("netdev_del", {"id": backend_name(nic)})
        except MonitorError as error:
            if _NOT_THERE not in str(error):
                raise
