"""A guest that runs in a machine of our own: its disks and NICs, and what else it has to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.errors import HostError, MonitorError
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import Disk, Nic
from compute_agent.instance.machine import Machine
from compute_agent.virt.process.console import Console
from compute_agent.virt.process.descriptors import handed_over, tap_descriptors, vhost_descriptors
from compute_agent.virt.process.diagnostics import process_diagnostics
from compute_agent.virt.process.guest import Common, ProcessGuest
from compute_agent.virt.vmm.launch import require_vhost, server_of
from compute_agent.virt.vmm.moving import VmmIncoming, VmmOutgoing

_DISK, _NIC = "vhost-user-blk-pci", "virtio-net-pci"


class VmmGuest(ProcessGuest):
    """Keeps `compute_agent.virt.contract.Guest`. Safe to be used from several threads."""

    def __init__(self, instance_uuid: str, process: Process, console: Console | None, common: Common) -> None:
        super().__init__(instance_uuid, process, console, common)
        self.outgoing = VmmOutgoing(self._execute, common.settings.command_timeout)
        self.incoming = VmmIncoming(self._execute)

    @property
    def open_disks(self) -> None:
        return None

    def attach_disk(self, disk: Disk, machine: Machine) -> None:
        device = {"driver": _DISK, "id": disk.name, "addr": machine.slots[disk.name]}
        self._hand_over(disk, "device_add", device)

    def detach_disk(self, name: str) -> None:
        self._unplugging.unplug(name)

    def resize_disk(self, name: str, size: int | None) -> None:
        """A server that has been asked for a fresh connection has told its size already."""
        known = _disks(self._execute)[name]["size"] if size is None else size
        self._execute("block_resize", {"device": name, "size": known})

    def reconnect_disk(self, disk: Disk) -> None:
        self._hand_over(disk, "x-reconnect-disk", {"device": disk.name})

    def attach_nic(self, nic: Nic, machine: Machine) -> None:
        require_vhost(nic)
        taps, vhosts = tap_descriptors(nic), vhost_descriptors(nic)
        device = {"driver": _NIC, "id": nic.name, "addr": machine.slots[nic.name]}
        device |= {"mac": nic.mac_address, "mtu": nic.mtu}
        with handed_over(self._execute, taps | vhosts):
            self._execute("device_add", {**device, "fds": list(taps), "vhostfds": list(vhosts)})

    def detach_nic(self, name: str) -> None:
        """What somebody has handed over and died, the machine has closed when it lost the connection."""
        self._unplugging.unplug(name)

    def diagnostics(self) -> Mapping[str, object]:
        found: dict[str, object] = process_diagnostics(self._execute, self.pid)
        disks = {name: {"size": disk["size"]} for name, disk in _disks(self._execute).items()}
        counters = self._execute("query-stats")
        return found | {"driver": "vmm", "kvm": True, "counters": counters, "disks": disks}

    def _on_event(self, event: Mapping[str, Any]) -> None:
        self.outgoing.heard(event)
        super()._on_event(event)

    def _hand_over(self, disk: Disk, command: str, arguments: Mapping[str, object]) -> None:
        """Give the machine the connection to a disk's server; where that is refused, it is let go of."""
        try:
            server = server_of(disk)
        except HostError as error:
            raise MonitorError(str(error)) from error
        with handed_over(self._execute, {disk.name: server}):
            self._execute(command, {**arguments, "fd": disk.name})


def _disks(execute: Execute) -> dict[str, dict[str, Any]]:
    return {disk["device"]: disk for disk in execute("query-block")}
