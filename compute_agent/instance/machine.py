"""The machine that an instance became on a host: decided once, then kept for the instance's life.

A command line is built from this and the instance each time; it is never stored itself.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

ROOT_PORTS = 32
"""The most PCIe root ports that a machine may have."""


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a guest can see of its machine and must find again after each start."""

    hypervisor: Literal["qemu"]
    type: str
    """A versioned machine type, such as ``pc-q35-7.2``."""
    accelerator: Literal["kvm", "tcg"]
    cpu: str
    """The CPU model as the hypervisor names it."""
    root_ports: Annotated[int, Meta(ge=1, le=ROOT_PORTS)] = ROOT_PORTS
    """PCIe root ports: for its first devices and for what is plugged later."""
    slots: dict[str, Annotated[int, Meta(ge=0, lt=ROOT_PORTS)]]
    """Device name (``disk0``, ``config``, ``net0``) to the index of its PCIe root port."""
