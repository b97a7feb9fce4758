"""One operation being carried out: what its steps can ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.block.open_disks import OpenDisks
from compute_agent.errors import GuestGone, StorageError
from compute_agent.instance.devices import Nic
from compute_agent.instance.extra_specs import queue_pairs
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance, Port
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.view import StepDetails
from compute_agent.network.contract import PortRequest
from compute_agent.virt.contract import Guest
from compute_agent.virt.migration import OutgoingMigration


class Report(Protocol):
    """See `Work.report`."""

    def __call__(self, percent: int, details: StepDetails | None = None, /) -> None: ...


class Work:
    """The request, its instance, the node, and what steps hand to later steps."""

    def __init__(self, node: Node, request: Request, record: InstanceRecord) -> None:
        self.node = node
        self.request = request
        self.record = record
        self.report: Report = lambda percent, details=None: None
        """Takes the percentage of the running step, and what else is known of it."""
        self._nics: Sequence[Nic] = ()

    @property
    def instance(self) -> Instance:
        """What the controller asked for."""
        return self.record.instance

    @property
    def uuid(self) -> str:
        """The instance's."""
        return self.record.instance.uuid

    @property
    def machine(self) -> Machine:
        """The instance's machine; decided now, and kept, where it has none yet."""
        if self.record.machine is None:
            self.change_instance(self.instance, self.node.hypervisor.design(self.instance))
        assert self.record.machine is not None
        return self.record.machine

    @property
    def takes_vhost_user(self) -> bool:
        """Its disks are all to be served over vhost-user."""
        return self.record.takes_vhost_user

    def change_instance(self, instance: Instance, machine: Machine | None) -> None:
        """Keep the instance and its machine as they are from now on."""
        self.record = msgspec.structs.replace(self.record, instance=instance, machine=machine)
        self.node.journal.set_record(self.record)

    @property
    def guest(self) -> Guest:
        """:raises GuestGone: the instance has no process."""
        return self.node.guest(self.uuid)

    @property
    def open_disks(self) -> OpenDisks:
        """:raises GuestGone, StorageError: the process that should have the instance's disks open has ended."""
        found = self.find_open_disks()
        if found is None and self.takes_vhost_user:
            raise StorageError(f"instance {self.uuid} has no block server")
        if found is None:
            raise GuestGone(f"instance {self.uuid} has no running process")
        return found

    def find_open_disks(self) -> OpenDisks | None:
        """The instance's disks, if a process has them open for its guest."""
        if self.takes_vhost_user:
            return self.node.storage.find_served_disks(self.instance)
        guest = self.node.find_guest(self.uuid)
        return None if guest is None else guest.open_disks

    @property
    def outgoing(self) -> OutgoingMigration:
        """The guest's way to another host.

        :raises GuestGone: the instance has no process.
        """
        outgoing, served = self.guest.outgoing, self.node.storage.moves.served(self.uuid)
        if served is not None:
            outgoing.have_disks_copied_by(served.mirrors)
        return outgoing

    @property
    def hurried(self) -> bool:
        """Somebody wants the instance gone, and waits for this operation to get out of the way."""
        return any(row.request.operation == "terminate" for row in self.node.journal.unfinished(self.uuid))

    @property
    def port_ids(self) -> list[str]:
        """The Neutron ids of the instance's ports."""
        return [port.id for port in self.instance.ports]

    def plug_ports(self) -> Sequence[Nic]:
        """The instance's NICs, plugged; descriptors are open until `close`."""
        return self._plug(self.instance.ports)

    def plug_port(self, port: Port) -> Nic:
        """The same with one of its ports only."""
        (nic,) = self._plug([port])
        return nic

    def _plug(self, ports: Sequence[Port]) -> Sequence[Nic]:
        if not self._nics and ports:
            self._nics = self.node.network.plug([self._port_request(port) for port in ports])
        return self._nics

    def _port_request(self, port: Port) -> PortRequest:
        queues = queue_pairs(self.instance.flavor)
        return PortRequest(instance_uuid=self.uuid, name=str(port.device_name), port=port, queues=queues)

    def close(self) -> None:
        """Let go of what was handed over; a guest that was started has its own descriptors."""
        for nic in self._nics:
            nic.close()
        self._nics = ()
