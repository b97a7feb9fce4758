"""The machine that an instance became on a host: decided once, then kept for the instance's life.

A command line is built from this and the instance each time; it is never stored itself.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

ROOT_PORTS = 32
"""The most PCIe root ports that a machine may have."""
HypervisorName = Literal["qemu", "vmm"]


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a guest can see of its machine and must find again after each start."""

    hypervisor: HypervisorName
    hypervisor_reason: str = ""
    """Why it is that one, for a person."""
    type: str
    """A versioned machine type, such as ``pc-q35-7.2`` or ``vmm-1``."""
    accelerator: Literal["kvm", "tcg"]
    cpu: str
    """The CPU model as the hypervisor names it."""
    root_ports: Annotated[int, Meta(ge=0, le=ROOT_PORTS)] = ROOT_PORTS
    """PCIe root ports, for its first devices and for what is plugged later. None in a machine of `vmm`."""
    slots: dict[str, Annotated[int, Meta(ge=0, lt=ROOT_PORTS)]]
    """Device name (``disk0``, ``config``, ``net0``) to the index of its PCIe root port; with `vmm`, to its PCI slot."""

    @property
    def takes_vhost_user(self) -> bool:
        """It opens no disk itself: a block server has to serve them all, over vhost-user."""
        return self.hypervisor == "vmm"
