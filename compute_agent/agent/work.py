"""One operation being carried out: what its steps can ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.instance.devices import Nic
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance
from compute_agent.instance.record import InstanceRecord
from compute_agent.network.contract import PortRequest
from compute_agent.virt.contract import Guest


class Work:
    """The request, its instance, the node, and what steps hand to later steps."""

    def __init__(self, node: Node, request: Request, record: InstanceRecord) -> None:
        self.node = node
        self.request = request
        self.record = record
        self.report: Callable[[int], None] = lambda percent: None
        """Takes the percentage of the running step."""
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
    def hurried(self) -> bool:
        """Somebody wants the instance gone, and waits for this operation to get out of the way."""
        return any(row.request.operation == "terminate" for row in self.node.journal.unfinished(self.uuid))

    @property
    def port_ids(self) -> list[str]:
        """The Neutron ids of the instance's ports."""
        return [port.id for port in self.instance.ports]

    def plug_ports(self) -> Sequence[Nic]:
        """The instance's NICs, plugged; descriptors are open until `close`."""
        if not self._nics and self.instance.ports:
            self._nics = self.node.network.plug(self._port_requests())
        return self._nics

    def _port_requests(self) -> list[PortRequest]:
        queues = self._queues()
        return [
            PortRequest(instance_uuid=self.uuid, name=f"net{index}", port=port, queues=queues)
            for index, port in enumerate(self.instance.ports)
        ]

    def _queues(self) -> int:
        """Queue pairs of each NIC. The kernel's tap takes 256, and no flavor has more than 255 vCPUs."""
        flavor = self.instance.flavor
        return flavor.vcpus if read_extra_specs(flavor.extra_specs).multiqueue else 1

    def close(self) -> None:
        """Let go of what was handed over; a guest that was started has its own descriptors."""
        for nic in self._nics:
            nic.close()
        self._nics = ()
