"""What the hosts of a lab are like, and the addresses that they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GATEWAY = "10.78.0.1"
"""The sandbox itself on the hosts' network: broker and controllers."""
PREFIX = 24
MTU = 9000
"""Of the hosts' network, so that guests' full-size packets fit into VXLAN."""
MOST_HOSTS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """One virtual machine."""

    cpus: int = 1
    """More than one is not safe: with a thread each, QEMU 7.2 may let one CPU go on with what another has patched away,
    and Linux patches its scheduler when KVM's first vCPU comes and its last goes: now and then all spin for ever."""
    memory_mib: int = 1400
    qemu_arguments: tuple[str, ...] = ()
    """More devices, or whatever QEMU takes."""
    kernel_arguments: str = ""
    agent_options: str = ""
    """More sections of the agent's configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all hosts of a lab have in common."""

    directory: Path
    hosts: int
    """How many."""
    transport_url: str
    ceph: str
    """What their agents are told of a cluster, if there is one."""
    shared: bool
    """They all have one directory at ``/shared``."""
    settings: HostSettings


def host_name(number: int) -> str:
    """Hosts are counted from 1."""
    return f"host{number}"


def host_address(number: int) -> str:
    """On the hosts' network, the underlay of VXLAN."""
    return f"10.78.0.{10 + number}"


def guests_address(number: int) -> str:
    """The host's own on its br-int, among the guests."""
    return f"10.77.0.{number}"
