"""NICs, and the root ports that devices are plugged into, as QEMU's JSON describes them.

A device is named as in the instance's machine (``disk0``, ``net0``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from compute_agent.instance.devices import Nic
from compute_agent.instance.machine import Machine

Properties = dict[str, object]

_PORTS_A_SLOT = 8
_FIRST_SLOT = 0x10


def root_ports(count: int) -> Iterator[Properties]:
    """PCIe root ports ``rp0``, ``rp1``, …: a hot-pluggable device needs one of its own."""
    for index in range(count):
        slot, function = divmod(index, _PORTS_A_SLOT)
        address = f"{_FIRST_SLOT + slot:#x}.{function}"
        port: Properties = {"driver": "pcie-root-port", "id": f"rp{index}", "bus": "pcie.0", "addr": address}
        yield port | {"chassis": index + 1, "multifunction": function == 0}


def bus_of(machine: Machine, device: str) -> Properties:
    """The root port that a device of the machine is plugged into.

    QEMU refuses a second device at this address; without it, the guest would never see the second.
    """
    return {"bus": f"rp{machine.slots[device]}", "addr": "0x0"}


def backend_name(nic: str) -> str:
    """Of what stands behind the NIC of that name."""
    return f"tap-{nic}"


def nic_backend(nic: Nic) -> str:
    """For the command line. Numbers only, so nothing in it needs quoting."""
    backend = f"tap,id={backend_name(nic.name)},fds={_joined(nic.tap_fds)}"
    return f"{backend},vhost=on,vhostfds={_joined(nic.vhost_fds)}" if nic.vhost_fds else backend


def later_nic_backend(nic: str, taps: Sequence[str], vhosts: Sequence[str]) -> Properties:
    """For the monitor, which has the descriptors by these names."""
    backend: Properties = {"type": "tap", "id": backend_name(nic), "fds": _joined(taps)}
    return backend | {"vhost": True, "vhostfds": _joined(vhosts)} if vhosts else backend


def _joined(descriptors: Iterable[int | str]) -> str:
    return ":".join(map(str, descriptors))


def nic_device(nic: Nic) -> Properties:
    """Without a boot ROM: a guest boots from its disks or from the kernel it was given."""
    device: Properties = {"driver": "virtio-net-pci", "id": nic.name, "netdev": backend_name(nic.name), "romfile": ""}
    device |= {"mac": nic.mac_address, "host_mtu": nic.mtu}
    queues = len(nic.tap_fds)
    # One MSI-X vector for each direction of a queue pair, one for configuration, one for control.
    return device | {"mq": True, "vectors": 2 * queues + 2} if queues > 1 else device
