"""What QEMU, block servers, Ceph and directories have of disks that no instance has: found without the agent.

A monitor takes one connection: these looks are for the time between two agents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice, FileConnection, RbdConnection
from compute_agent.instance.model import Instance
from compute_agent.storage.server.launch import find_servers
from sandbox.ceph import Ceph
from sandbox.monitor import ask
from sandbox.node import Node

_CONFIG_DRIVE, _CONSOLE = "config", "console-log"
_NAMELESS = "without a name"
"""Descriptors that files are opened anew from, for that moment only."""
_DISK = re.compile(r"(limits-)?([a-z]+[0-9]*)")
"""The disk that a node, an export or an object is called after."""
_LOCK = "compute_agent"


def surplus(
    node: Node,
    running: Sequence[Instance],
    stopped: Sequence[Instance] = (),
    elsewhere: Sequence[Instance] = (),
) -> list[str]:
    """In words, what is there besides these instances and their disks; to be asked while no agent runs.

    `elsewhere`: instances of other hosts, which may have images in the same cluster.
    """
    instances = [*running, *stopped]
    return [
        *(line for instance in running for line in _of_guest(node, instance)),
        *_of_servers(node, running),
        *_notes(node, instances),
        *_unfinished(node),
        *(_in_ceph(node.ceph, node, [*instances, *elsewhere]) if node.ceph else ()),
    ]


def _unfinished(node: Node) -> Iterator[str]:
    """Files that somebody began to write, or to remove; but for downloads, which the next one goes on with."""
    for pattern in ("*.part", ".deleting-*", "*.restored", "*.former"):
        for path in node.directory.rglob(pattern):
            if path.parent != node.directory / "state/images":
                yield f"file {path}"


def waiting(node: Node) -> Iterator[str]:
    """Images that are still to be removed or released, and those that somebody has open."""
    yield from _queued(node)
    if (ceph := node.ceph) is not None:
        for image in ceph.rbd("ls", ceph.pool).split():
            if "Watchers: none" not in ceph.rbd("status", f"{ceph.pool}/{image}"):
                yield f"watcher of image {image} in Ceph"


def _queued(node: Node) -> Iterator[str]:
    for path in (node.directory / "state/ceph").glob("*/*.json"):
        with suppress(FileNotFoundError):  # done meanwhile
            yield f"{path.parent.name} image: {path.read_text()}"


def _of_machine(node: Node, instance: Instance) -> Iterator[str]:
    """Of our own; its block server has all else."""
    (disks,) = ask(node.directory / "run/guests" / instance.uuid / "monitor.sock", "query-block")
    sizes = {one["device"]: one["size"] for one in disks if one["device"] != _CONFIG_DRIVE}
    wanted = {device.device_name: device.size_gb for device in instance.block_devices}
    yield from (f"disk {name} in a machine" for name in sizes.keys() - wanted.keys())
    yield from (f"no disk {name} in a machine" for name in wanted.keys() - sizes.keys())
    yield from (
        f"disk {name} of {sizes[name]} bytes in a machine"
        for name, size_gb in wanted.items()
        if name in sizes and sizes[name] != (size_gb or 0) << 30
    )


def _is_our_machine(instance: Instance) -> bool:
    return instance.flavor.extra_specs.get("hw:hypervisor") == "vmm"


def _of_guest(node: Node, instance: Instance) -> Iterator[str]:
    if _is_our_machine(instance):
        yield from _of_machine(node, instance)
        return
    monitor = node.directory / "run/guests" / instance.uuid / "monitor.sock"
    objects = ("qom-list", {"path": "/objects"})
    nodes, jobs, fdsets, children = ask(
        monitor, ("query-named-block-nodes", {"flat": True}), "query-jobs", "query-fdsets", objects
    )
    names = {str(one["node-name"]) for one in nodes}
    groups = [one["name"] for one in children if one["type"] in ("child<throttle-group>", "child<secret>")]
    opaque = {fd.get("opaque", _NAMELESS) for one in fdsets for fd in one["fds"]} - {_CONSOLE}
    wanted = {_CONFIG_DRIVE, *_disks(instance)}
    for kind, found in (("node", names), ("object", groups), ("descriptor", opaque)):
        yield from (f"{kind} {one} in QEMU" for one in found if _disk_of(one) not in wanted or "-copy" in one)
    yield from (f"descriptor {one} in QEMU, of no node" for one in opaque if one not in names)
    yield from (f"node {one} in QEMU, besides its successor" for one in names if f"{one}.b" in names)
    yield from (f"job {job['id']} in QEMU" for job in jobs)
    yield from _limits(monitor, instance)


def _limits(monitor: Path, instance: Instance) -> Iterator[str]:
    """Those that are not the record's."""
    for device in instance.block_devices:
        group = {"path": f"/objects/limits-{device.device_name}", "property": "limits"}
        (limits,) = ask(monitor, ("qom-get", group))
        if limits["iops-total"] != (device.qos.total_iops_sec if device.qos else 0):
            yield f"limits of {device.device_name} in QEMU: {limits}"


def _of_servers(node: Node, running: Sequence[Instance]) -> Iterator[str]:
    wanted = {one.uuid: disks for one in running if (disks := _disks(one, served=True))}
    directory = node.directory / "run/servers"
    there = find_servers(directory) if directory.exists() else {}
    yield from (f"block server of instance {uuid}" for uuid in there.keys() - wanted.keys())
    yield from (f"no block server of instance {uuid}" for uuid in wanted.keys() - there.keys())
    for path in directory.glob("*-*"):
        if path.is_dir() and path.name not in wanted:
            yield f"file {path}"
    for uuid in there.keys() & wanted.keys():
        yield from _of_server(directory / uuid / "monitor.sock", wanted[uuid])


def _of_server(monitor: Path, wanted: set[str]) -> Iterator[str]:
    exports, statistics, jobs = ask(
        monitor, "query-block-exports", ("query-blockstats", {"query-nodes": True}), "query-jobs"
    )
    names = {str(one["id"]) for one in exports}
    nodes = {str(one["node-name"]) for one in statistics}
    yield from (f"export {one} of a block server" for one in names if one.partition(".")[0] not in wanted)
    yield from (f"node {one} in a block server, of no export" for one in nodes if one.partition("-")[0] not in names)
    yield from (f"job {job['id']} in a block server" for job in jobs)


def _notes(node: Node, instances: Iterable[Instance]) -> Iterator[str]:
    """In the instances' directories, and beside volumes."""
    wanted = {one.uuid: _disks(one) for one in instances}
    for path in (node.directory / "state/disks").glob("*/disk*"):
        if path.name.partition(".")[0] not in wanted.get(path.parent.name, ()):
            yield f"file {path}"
    used = {f"{_path_of(one)}.owner" for instance in instances for one in instance.block_devices}
    yield from (f"file {path}" for path in node.volumes.rglob("*.owner") if str(path) not in used)


def _in_ceph(ceph: Ceph, node: Node, instances: Sequence[Instance]) -> Iterator[str]:
    owners = {_image_of(one, each): one.uuid for one in instances for each in one.block_devices}
    queued = "".join(_queued(node))
    for image in ceph.rbd("ls", ceph.pool).split():
        if not image.startswith(("image-", "volume-")) and image not in owners and image not in queued:
            yield f"image {image} in Ceph"
        elif image not in owners and image not in queued and _is_owned(ceph, image):
            yield f"the lock on image {image} in Ceph"


def _is_owned(ceph: Ceph, image: str) -> bool:
    """Some agent's lock is on it."""
    header = f"rbd_header.{json.loads(ceph.rbd('info', f'{ceph.pool}/{image}', '--format', 'json'))['id']}"
    answer = json.loads(ceph.rados("-p", ceph.pool, "lock", "info", header, _LOCK, "--format", "json"))
    return bool(answer["lockers"])


def _disks(instance: Instance, *, served: bool = False) -> set[str]:
    devices = instance.block_devices
    if served and _is_our_machine(instance):
        return {str(one.device_name) for one in devices} | ({_CONFIG_DRIVE} if instance.config_drive else set())
    return {str(one.device_name) for one in devices if not served or _is_served(one)}


def _is_served(device: BlockDevice) -> bool:
    return device.backend == "rbd" or isinstance(device.connection_info, RbdConnection)


def _disk_of(name: str) -> str:
    found = _DISK.match(name)
    return found[2] if found else name


def _path_of(device: BlockDevice) -> str:
    return device.connection_info.data.path if isinstance(device.connection_info, FileConnection) else ""


def _image_of(instance: Instance, device: BlockDevice) -> str:
    if isinstance(device.connection_info, RbdConnection):
        return device.connection_info.data.name.rpartition("/")[2]
    return f"{instance.uuid}_{device.device_name}"
