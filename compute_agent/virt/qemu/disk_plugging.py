"""Disks that come, change and go while their guest runs."""

from __future__ import annotations

from functools import cached_property

from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import Disk
from compute_agent.instance.machine import Machine
from compute_agent.virt.process.unplugging import Unplugging, device_path, has_device
from compute_agent.virt.qemu.block_layer import BlockLayer
from compute_agent.virt.qemu.block_nodes import top_names
from compute_agent.virt.qemu.disks import SCSI_CONTROLLER, disk_device, scsi_controller


class DiskPlugging:
    """The disks of one running guest, over its monitor. Each verb may be repeated after a crash."""

    def __init__(self, execute: Execute, unplugging: Unplugging) -> None:
        self._execute = execute
        self._nodes = BlockLayer(execute)
        self._unplugging = unplugging

    def attach(self, disk: Disk, machine: Machine) -> None:
        """See the contract."""
        top, _ = top_names(disk.name)
        if not self._nodes.node_names().isdisjoint(top_names(disk.name)):
            self._nodes.remove(disk.name)  # of an agent that was killed before the guest got it
        self._nodes.add(disk, top)
        try:
            self._add_device(disk, top, machine)
        except MonitorError:
            self._nodes.remove(disk.name)
            raise

    def detach(self, name: str) -> None:
        """See the contract."""
        self._unplugging.unplug(name)
        self._nodes.remove(name)

    def resize(self, name: str, size: int | None) -> None:
        """See the contract."""
        self._nodes.resize(self.top(name), size)

    def limit(self, name: str, qos: DiskQos | None) -> None:
        """See the contract."""
        self._nodes.limit(name, self.top(name), qos)

    def reconnect(self, disk: Disk) -> None:
        """See the contract.

        The device goes over to new nodes, and they are not put under its present top node by blockdev-reopen: that
        flushes first, which a server that has died does not answer.
        """
        present = self.top(disk.name)
        (fresh,) = set(top_names(disk.name)) - {present}
        if fresh in self._nodes.node_names():
            self._nodes.remove(disk.name, fresh)
        self._nodes.add(disk, fresh)
        try:
            self._change_over(disk.name, fresh)
        except MonitorError:
            self._nodes.remove(disk.name, fresh)
            raise
        self._nodes.remove(disk.name, present)

    def top(self, disk: str) -> str:
        """The top node of a disk."""
        return str(self._execute("qom-get", {"path": device_path(disk), "property": "drive"}))

    def _add_device(self, disk: Disk, top: str, machine: Machine) -> None:
        iothreads = len(self._iothreads)
        if disk.bus == "scsi" and not has_device(self._execute, SCSI_CONTROLLER):
            self._execute("device_add", scsi_controller(machine, iothreads))
        # Firmware asks for the order to boot in when the machine starts, and has done so.
        self._execute("device_add", disk_device(disk, top, machine, iothreads, bootable=False))

    @cached_property
    def _iothreads(self) -> list[str]:
        return [str(thread["id"]) for thread in self._execute("query-iothreads")]

    def _change_over(self, device: str, top: str) -> None:
        """A device that its guest drives is served by an iothread, any other by the main one: nodes have to follow."""
        for thread in (*self._iothreads, None):
            try:
                self._execute("qom-set", {"path": device_path(device), "property": "drive", "value": top})
            except MonitorError as error:
                if "aio context" not in str(error) or thread is None:
                    raise
                self._execute("x-blockdev-set-iothread", {"node-name": top, "iothread": thread})
            else:
                return
