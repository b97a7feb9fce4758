"""A guest that runs in a QEMU process: its disks, their copies and snapshots, its NICs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from compute_agent.host.processes import Process
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import Disk, Nic
from compute_agent.instance.machine import Machine
from compute_agent.instance.state import PowerState
from compute_agent.virt.process.console import Console
from compute_agent.virt.process.guest import Common, ProcessGuest
from compute_agent.virt.qemu.block_nodes import check_aio, disk_of
from compute_agent.virt.qemu.copies import QemuCopies
from compute_agent.virt.qemu.diagnostics import diagnostics
from compute_agent.virt.qemu.disk_layers import QemuLayers
from compute_agent.virt.qemu.disk_plugging import DiskPlugging
from compute_agent.virt.qemu.freezing import Freeze
from compute_agent.virt.qemu.migration.incoming import QemuIncoming
from compute_agent.virt.qemu.migration.outgoing import QemuOutgoing
from compute_agent.virt.qemu.moments import Moments
from compute_agent.virt.qemu.nic_plugging import NicPlugging

_ANSWERS_WITHIN = 1.0
"""Seconds for a guest that is about to be ended."""


class QemuGuest(ProcessGuest):
    """Keeps `compute_agent.virt.contract.Guest`. Safe to be used from several threads."""

    def __init__(self, instance_uuid: str, process: Process, console: Console | None, common: Common) -> None:
        super().__init__(instance_uuid, process, console, common, disk_of)
        self._disks = DiskPlugging(self._execute, self._unplugging)
        self._nics = NicPlugging(self._execute, self._unplugging)
        freeze = partial(Freeze, self._paths.guest_agent_socket, common.settings.freeze_timeout)
        moments = Moments(self._execute, freeze)
        self.copies = QemuCopies(self._execute, self._disks.top, moments, common.settings)
        self.layers = QemuLayers(self._execute, self._disks.top, moments, common.settings.command_timeout)
        run = self._paths.run
        self.outgoing = QemuOutgoing(self._execute, self._disks.top, common.settings.command_timeout, run)
        self.incoming = QemuIncoming(self._execute, self._disks.top, run)

    @property
    def open_disks(self) -> QemuGuest | None:
        return None if self.process.has_ended() else self

    def attach_disk(self, disk: Disk, machine: Machine) -> None:
        check_aio(disk, confined=self._settings.confine_guests)
        self._disks.attach(disk, machine)

    def detach_disk(self, name: str) -> None:
        self._disks.detach(name)

    def resize_disk(self, name: str, size: int | None) -> None:
        self._disks.resize(name, size)

    def set_disk_qos(self, name: str, qos: DiskQos | None) -> None:
        self._disks.limit(name, qos)

    def reconnect_disk(self, disk: Disk) -> None:
        self._disks.reconnect(disk)

    def attach_nic(self, nic: Nic, machine: Machine) -> None:
        self._nics.attach(nic, machine)

    def detach_nic(self, name: str) -> None:
        self._nics.detach(name)

    def diagnostics(self) -> Mapping[str, object]:
        return diagnostics(self._execute, self.pid)

    def _prepare_end(self) -> None:
        if self.status(_ANSWERS_WITHIN) is not PowerState.UNRESPONSIVE:
            self.copies.store_marks(self.process)

    def _on_event(self, event: Mapping[str, Any]) -> None:
        self.copies.heard(event)
        self.layers.heard(event)
        self.outgoing.heard(event)
        super()._on_event(event)
