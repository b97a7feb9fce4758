"""Instances and operations as the columns of a table; the names are those of RPC."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from compute_agent.cli.columns import Moment, Nested, Perhaps, Short, Size, Usage, present
from compute_agent.cli.step_details import Details
from compute_agent.instance.block_device import BlockDevice, FileConnection, RbdConnection
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.model import Port
from compute_agent.instance.view import Accepted, CachedImage, Fault, InstanceView, OperationView

INSTANCE_COLUMNS = ("uuid", "name", "vm_state", "power_state", "task", "vcpus", "memory_mb", "addresses")
OPERATION_COLUMNS = ("request_id", "operation", "instance_uuid", "state", "progress", "accepted_at", "seconds")
IMAGE_COLUMNS = ("checksum", "kind", "size", "used_at", "used_by")
BACKUP_COLUMNS = ("backup_id", "instance_uuid", "parent", "target", "created_at", "frozen", "disks", "size")


def instance_row(view: InstanceView) -> tuple[object, ...]:
    """The values of `INSTANCE_COLUMNS`."""
    instance = view.instance
    return (
        instance.uuid,
        instance.name,
        str(view.vm_state),
        str(view.power_state),
        Perhaps(view.task),
        instance.flavor.vcpus,
        instance.flavor.memory_mb,
        Nested(_addresses(instance.ports)),
    )


def instance_fields(view: InstanceView) -> dict[str, object]:
    """All about one instance, but for its user data and keys, which are the guest's own."""
    instance = view.instance
    return {
        **dict(zip(INSTANCE_COLUMNS[:5], instance_row(view), strict=False)),
        "fault": fault_cell(view.fault),
        "host": view.host,
        "pid": Perhaps(view.pid),
        "epoch": view.epoch,
        "vcpus": instance.flavor.vcpus,
        "memory_mb": instance.flavor.memory_mb,
        "extra_specs": Nested(instance.flavor.extra_specs),
        "block_devices": Nested([_describe_disk(disk) for disk in instance.block_devices]),
        "ports": Nested([_describe_port(port) for port in instance.ports]),
        "direct_boot": Nested(msgspec.to_builtins(instance.direct_boot)),
        "hostname": Perhaps(instance.hostname),
        "config_drive": instance.config_drive,
        "metadata": Nested(instance.metadata),
        "machine": Nested(msgspec.to_builtins(view.machine)),
        "created_at": Moment(view.created_at),
        "updated_at": Moment(view.updated_at),
        "launched_at": Moment(view.launched_at),
    }


def operation_row(view: OperationView) -> tuple[object, ...]:
    """The values of `OPERATION_COLUMNS`."""
    return (
        view.request_id,
        view.operation,
        view.instance_uuid,
        str(view.state),
        view.progress,
        Moment(view.accepted_at),
        _seconds(view),
    )


def operation_fields(view: OperationView) -> dict[str, object]:
    """All about one operation."""
    return {
        **dict(zip(OPERATION_COLUMNS, operation_row(view), strict=True)),
        "finished_at": Moment(view.finished_at),
        "steps": Nested({step.name: str(step.state) for step in view.steps}),
        "details": Perhaps(None) if view.details is None else Details(view.details),
        "fault": fault_cell(view.fault),
    }


def accepted_fields(accepted: Accepted) -> dict[str, object]:
    """What is known of an operation when it has been accepted."""
    return {
        "request_id": accepted.request_id,
        "operation": accepted.operation,
        "instance_uuid": accepted.instance_uuid,
        "state": str(accepted.state),
    }


def outcome_fields(view: OperationView) -> dict[str, object]:
    """What became of an operation: what `accepted_fields` says, and more."""
    fields = operation_fields(view)
    return {name: fields[name] for name in ("request_id", "operation", "instance_uuid", "state", "seconds", "fault")}


def host_fields(host: dict[str, Any]) -> dict[str, object]:
    """All that a host says about itself."""
    hypervisor = dict(host["hypervisor"])
    kvm = hypervisor.pop("kvm", None)
    apart = ("agent", "storage", "maintenance_since")
    plain = {name: present(value) for name, value in host.items() if name not in apart}
    return {
        **plain,
        "maintenance_since": Moment(host["maintenance_since"]),
        "hypervisor": Nested(hypervisor),
        **_kvm_fields(kvm),
        **{f"storage_{name}": Usage(usage) for name, usage in host["storage"].items()},
        "agent_version": host["agent"]["version"],
        "agent_started_at": Moment(host["agent"]["started_at"]),
    }


def _kvm_fields(kvm: dict[str, Any] | None) -> dict[str, object]:
    """What is a list of its own gets a cell of its own."""
    if kvm is None:
        return {}
    lists = {name: kvm[name] for name in ("extensions", "missing")}
    rest = {name: value for name, value in kvm.items() if name not in lists}
    return {"kvm": Nested(rest), **{f"kvm_{name}": Nested(value) for name, value in lists.items()}}


def image_row(image: CachedImage) -> tuple[object, ...]:
    """The values of `IMAGE_COLUMNS`."""
    return Short(image.checksum), image.kind, Size(image.size), Moment(image.used_at), image.used_by


def snapshot_fields(snapshot: Snapshot) -> dict[str, object]:
    """All about one snapshot."""
    sizes = {name: Size(getattr(snapshot, name)) for name in ("size", "virtual_size")}
    return {**msgspec.structs.asdict(snapshot), **sizes, "created_at": Moment(snapshot.created_at)}


def backup_row(backup: Backup) -> tuple[object, ...]:
    """The values of `BACKUP_COLUMNS`."""
    return (
        backup.backup_id,
        backup.instance_uuid,
        Perhaps(backup.parent),
        Perhaps(backup.target),
        Moment(backup.created_at),
        backup.frozen,
        Nested([disk.name for disk in backup.disks]),
        Size(sum(disk.size for disk in backup.disks)),
    )


def fault_cell(fault: Fault | None) -> Perhaps | Nested:
    """A fault, if there is one."""
    return Perhaps(None) if fault is None else Nested({"type": fault.type, "message": fault.message})


def _seconds(view: OperationView) -> float:
    finished = time.time() if view.finished_at is None else view.finished_at
    return round(finished - view.accepted_at, 2)


def _addresses(ports: list[Port]) -> list[str]:
    return [fixed.ip_address for port in ports for fixed in port.fixed_ips]


_SAID_OF_DISKS = ("size_gb", "volume_id", "backend", "cache_mode")


def _describe_disk(disk: BlockDevice) -> dict[str, object]:
    """What was said about it; not what was left to the node."""
    fields: dict[str, object] = {"device_name": disk.device_name, "source_type": disk.source_type}
    fields |= {name: value for name in _SAID_OF_DISKS if (value := getattr(disk, name)) is not None}
    if disk.image is not None:
        fields |= {"url": disk.image.url, "disk_format": disk.image.disk_format}
    if isinstance(disk.connection_info, RbdConnection):
        fields |= {"rbd": disk.connection_info.data.name, "cluster": disk.connection_info.data.cluster_name}
    if isinstance(disk.connection_info, FileConnection):
        fields |= {"file": disk.connection_info.data.path}
    if disk.qos is not None:
        fields["qos"] = msgspec.to_builtins(disk.qos)
    if disk.layers:
        fields["layers"] = list(disk.layers)
    return fields


def _describe_port(port: Port) -> dict[str, object]:
    return {
        "device_name": port.device_name,
        "id": port.id,
        "mac_address": port.mac_address,
        "bridge": port.details.bridge_name,
        "vlan": port.details.vlan,
        "mtu": port.mtu,
        "addresses": _addresses([port]),
    }
