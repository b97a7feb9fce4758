"""Starting the process of a machine: a child of a fork server for machines, or a program where it is not confined."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from compute_agent.errors import HostError
from compute_agent.host.confinement.launcher import Launcher
from compute_agent.instance.devices import BootFiles, Disk, Nic, VhostUserSource
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.launch import Launch, Program, listen, open_file
from compute_agent.virt.process.limits import Limits
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm.limits import limits_of
from compute_agent.virt.vmm.plan import DiskPlan, KernelPlan, NicPlan, Plan, encode_plan

_LOCK = "machine-fork-server.lock"
_FORK_SERVER = "compute_agent.virt.vmm.fork_server"
_PROGRAM = "compute_agent.virt.vmm.process"
_MIB = 1024**2


class VmmLaunch(Launch):
    """The fork server is started when the first guest is, or by `prepare`.

    :raises HostError: cgroups cannot be used, or an earlier agent has not come to its end.
    """

    def __init__(self, settings: VirtSettings) -> None:
        launcher = Launcher(settings.run_dir / _LOCK, module=_FORK_SERVER) if settings.confine_guests else None
        super().__init__(settings, launcher)

    def prepare(self) -> None:
        """Start the fork server now, so that the first guest need not wait for it."""
        if self._launcher is not None:
            self._launcher.prepare()

    def _program(self, opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Program:
        plan = make_plan(opened, request, paths, ring, self._settings.bios)
        argument = encode_plan(plan)
        if self._launcher is None:
            return Program([sys.executable, "-I", "-m", _PROGRAM, argument], _descriptors(plan))
        return Program([argument], _descriptors(plan))

    def _limits(self, request: StartRequest) -> Limits:
        return limits_of(request)


def make_plan(opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing, bios: Path) -> Plan:
    """Open all that the machine needs; it is closed with `opened`.

    :raises OSError: a file cannot be opened.
    :raises HostError: no block server serves one of the disks, or the kernel serves no NIC.
    """
    instance, slots = request.instance, request.machine.slots
    return Plan(
        instance_uuid=instance.uuid,
        name=instance.name,
        memory=instance.flavor.memory_mb * _MIB,
        vcpus=instance.flavor.vcpus,
        monitor=listen(opened, paths.monitor_socket),
        console=listen(opened, paths.console_socket),
        console_log=ring.shared,
        disks=[
            DiskPlan(name=disk.name, slot=slots[disk.name], server=server_of(disk), boot_index=disk.boot_index)
            for disk in request.disks
        ],
        nics=[_plan_nic(nic, slots[nic.name]) for nic in request.nics],
        kernel=_open_kernel(opened, request.boot) if request.boot else None,
        firmware=open_file(opened, bios) if request.boot is None else None,
        saved_state=open_file(opened, request.saved_state) if request.saved_state else None,
        is_incoming=request.is_incoming,
    )


def server_of(disk: Disk) -> int:
    """The connection to the disk's block server.

    :raises HostError: it has none.
    """
    if not isinstance(disk.source, VhostUserSource):
        raise HostError(f"{disk.name}: vmm needs a block server that serves it over vhost-user")
    return disk.source.fd


def require_vhost(nic: Nic) -> None:
    """:raises HostError: the kernel does not serve it."""
    if not nic.vhost_fds:
        raise HostError(f"{nic.name}: vmm needs vhost-net, which this host does not have")


def _plan_nic(nic: Nic, slot: int) -> NicPlan:
    require_vhost(nic)
    return NicPlan(
        name=nic.name, slot=slot, taps=nic.tap_fds, vhosts=nic.vhost_fds, mac_address=nic.mac_address, mtu=nic.mtu
    )


def _open_kernel(opened: ExitStack, boot: BootFiles) -> KernelPlan:
    return KernelPlan(
        image=open_file(opened, boot.kernel),
        ramdisk=open_file(opened, boot.ramdisk) if boot.ramdisk else None,
        command_line=boot.command_line,
    )


def _descriptors(plan: Plan) -> list[int]:
    """All that the plan names."""
    fds = [plan.monitor, plan.console, plan.console_log, plan.firmware, plan.saved_state]
    fds += [plan.kernel.image, plan.kernel.ramdisk] if plan.kernel else []
    fds += [disk.server for disk in plan.disks]
    fds += [fd for nic in plan.nics for fd in (*nic.taps, *nic.vhosts)]
    return [fd for fd in fds if fd is not None]
