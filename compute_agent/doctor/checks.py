"""All checks of a node, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compute_agent.doctor import broker, clock, isolation, kernel, kvm, memory, network, qemu, storage, switch
from compute_agent.doctor.examination import Check
from compute_agent.doctor.settings import BrokerSettings
from compute_agent.doctor.storage import Directory, Use
from compute_agent.network.settings import NetworkSettings
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.settings import VirtSettings

_HUNG = "a file system may hang: mount; dmesg | tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """All that the checks are told of the node."""

    state_dir: Path
    """The agent's own."""
    virt: VirtSettings
    network: NetworkSettings
    storage: StorageSettings
    broker: BrokerSettings | None
    """None: the configuration does not say which."""
    post_copy: bool = False
    """Guests that leave go on elsewhere before all of their memory is there; so do, it is supposed, those that come."""


def checks_of(node: NodeSettings) -> Iterator[Check]:
    """They do not depend on each other."""
    yield Check("kernel", kernel.check_kernel)
    yield Check("isolation", partial(isolation.check_isolation, node.virt), isolation.DEADLINE, alone=True)
    yield Check("cgroup", partial(kernel.check_cgroups, node.virt.cgroup_dir.parent), remedy_of_silence=_HUNG)
    yield Check("open-files", memory.check_open_files)
    yield Check("clock", clock.check_clock)
    yield Check("kvm", kvm.check_kvm, kvm.DEADLINE, alone=True)
    yield Check("qemu", partial(qemu.check_qemu, node.virt), qemu.DEADLINE, alone=True)
    yield Check("hugepages", memory.check_hugepages)
    yield Check("iommu", kernel.check_iommu)
    yield Check("tun", network.check_tap)
    yield Check("vhost-net", partial(network.check_vhost, node.network))
    yield Check("kernel-tls", network.check_tls)
    yield Check("post-copy", partial(memory.check_post_copy, not node.virt.confine_guests, node.post_copy))
    yield Check("openvswitch", partial(switch.check_switch, node.network.ovsdb_connection))
    yield from _broker_checks(node.broker)
    for directory in directories_of(node):
        yield Check(directory.option, partial(storage.check_directory, directory), remedy_of_silence=_HUNG)
    sources = partial(storage.check_image_sources, node.storage.image_sources)
    yield Check("image_sources", sources, remedy_of_silence=_HUNG)
    yield Check("qemu-img", partial(storage.check_qemu_img, node.storage))


def directories_of(node: NodeSettings) -> list[Directory]:
    """By the options that name them."""
    reserved = node.storage.reserved_space
    return [
        Directory("agent.state_dir", node.state_dir, Use.STATE),
        Directory("virt.state_dir", node.virt.state_dir, Use.STATE),
        Directory("virt.run_dir", node.virt.run_dir, Use.RUN),
        Directory("storage.disk_dir", node.storage.disk_dir, Use.DISKS, reserved),
        Directory("storage.image_dir", node.storage.image_dir, Use.DISKS, reserved),
        Directory("storage.snapshot_dir", node.storage.snapshot_dir, Use.DISKS, reserved),
        Directory("storage.backup_dir", node.storage.backup_dir, Use.DISKS, reserved),
    ]


def _broker_checks(settings: BrokerSettings | None) -> Iterator[Check]:
    if settings is None:
        return
    for host in settings.hosts:
        remedy = f"ping {host.hostname}; on the broker: rabbitmqctl status"
        yield Check("broker", partial(broker.check_broker, settings, host), broker.DEADLINE, remedy)
