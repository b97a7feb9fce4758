"""Disks that come, change and go while their guest runs."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from compute_agent.errors import DetachRefused, GuestGone, MonitorError
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import Disk
from compute_agent.instance.machine import Machine
from compute_agent.virt.qemu.block_layer import BlockLayer
from compute_agent.virt.qemu.block_nodes import top_names
from compute_agent.virt.qemu.disks import SCSI_CONTROLLER, disk_device, scsi_controller
from compute_agent.virt.qemu.saving import Execute

_DEVICES = "/machine/peripheral"
_UNDER_WAY = "in the process of unplug"
"""QEMU's words where the guest has been asked before and has not answered."""
_NO_DEVICE = " not found"
"""The same where there is none."""
_DELETED, _REFUSED, _ENDED = "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "the process has ended"


class DiskPlugging:
    """The disks of one running guest, over its monitor. Each verb may be repeated after a crash."""

    def __init__(self, execute: Execute, detach_timeout: float) -> None:
        self._execute = execute
        self._nodes = BlockLayer(execute)
        self._detach_timeout = detach_timeout
        self._awaited: dict[str, queue.SimpleQueue[str]] = {}
        """By device: what happens to it."""

    def attach(self, disk: Disk, machine: Machine) -> None:
        """See the contract."""
        top, _ = top_names(disk.name)
        if not self._nodes.node_names().isdisjoint(top_names(disk.name)):
            if self._has(disk.name):
                return
            self._nodes.remove(disk.name)  # of an agent that was killed before the guest got it
        self._nodes.add(disk, top)
        try:
            self._add_device(disk, top, machine)
        except MonitorError:
            self._nodes.remove(disk.name)
            raise

    def detach(self, name: str) -> None:
        """See the contract."""
        self._unplug(name)
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

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] in (_DELETED, _REFUSED):
            self._tell(event["data"].get("device", ""), event["event"])

    def ended(self) -> None:
        """Nothing will happen any more."""
        for name in list(self._awaited):
            self._tell(name, _ENDED)

    def _tell(self, name: str, what: str) -> None:
        if (awaited := self._awaited.get(name)) is not None:
            awaited.put(what)

    def _has(self, device: str) -> bool:
        return any(child["name"] == device for child in self._execute("qom-list", {"path": _DEVICES}))

    def top(self, disk: str) -> str:
        """The top node of a disk."""
        return str(self._execute("qom-get", {"path": f"{_DEVICES}/{disk}", "property": "drive"}))

    def _add_device(self, disk: Disk, top: str, machine: Machine) -> None:
        iothreads = len(self._iothreads)
        if disk.bus == "scsi" and not self._has(SCSI_CONTROLLER):
            self._execute("device_add", scsi_controller(machine, iothreads))
        # Firmware asks for the order to boot in when the machine starts, and has done so.
        self._execute("device_add", disk_device(disk, top, machine, iothreads, bootable=False))

    @cached_property
    def _iothreads(self) -> list[str]:
        return [str(thread["id"]) for thread in self._execute("query-iothreads")]

    def _unplug(self, name: str) -> None:
        happens: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._awaited[name] = happens
        try:
            if self._ask_to_let_go(name):
                self._await_unplugged(name, happens)
        finally:
            del self._awaited[name]

    def _ask_to_let_go(self, name: str) -> bool:
        """False: the guest does not have it."""
        try:
            self._execute("device_del", {"id": name})
        except MonitorError as error:
            if _NO_DEVICE in str(error):
                return False
            if _UNDER_WAY not in str(error):
                raise
        return True

    def _await_unplugged(self, name: str, happens: queue.SimpleQueue[str]) -> None:
        try:
            what = happens.get(timeout=self._detach_timeout)
        except queue.Empty:
            # The event is lost where the connection was lost meanwhile.
            if self._has(name):
                text = f"{name}: the guest has not let go of it within {self._detach_timeout:g} s"
                raise DetachRefused(text) from None
            return
        if what == _ENDED:
            raise GuestGone(f"{name}: the guest's process has ended")
        if what == _REFUSED:
            raise DetachRefused(f"{name}: the guest does not let go of it")

    def _change_over(self, device: str, top: str) -> None:
        """A device that its guest drives is served by an iothread, any other by the main one: nodes have to follow."""
        for thread in (*self._iothreads, None):
            try:
                self._execute("qom-set", {"path": f"{_DEVICES}/{device}", "property": "drive", "value": top})
            except MonitorError as error:
                if "aio context" not in str(error) or thread is None:
                    raise
                self._execute("x-blockdev-set-iothread", {"node-name": top, "iothread": thread})
            else:
                return
