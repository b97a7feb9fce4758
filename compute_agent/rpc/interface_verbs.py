"""What a controller can have done with an instance's ports."""

from __future__ import annotations

from compute_agent.instance.model import Port
from compute_agent.instance.view import Accepted
from compute_agent.rpc.asking import Asking


class InterfaceVerbs(Asking):
    """Changes: answered as soon as they are durable."""

    def attach_interface(self, instance_uuid: str, port: Port, request_id: str | None = None) -> Accepted:
        """Give the instance one more port, and its guest a NIC."""
        return self._change("attach_interface", request_id, instance_uuid=instance_uuid, port=port)

    def detach_interface(self, instance_uuid: str, port_id: str, request_id: str | None = None) -> Accepted:
        """Take a port away again."""
        return self._change("detach_interface", request_id, instance_uuid=instance_uuid, port_id=port_id)
