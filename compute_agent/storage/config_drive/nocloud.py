"""The files of cloud-init's NoCloud data source.

cloud-init reads them as YAML, and JSON is nearly YAML: everything structured is encoded, never pasted
together, so that no name and no key can become structure. User data is the owner's, byte for byte.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from ipaddress import ip_network

from compute_agent.instance.model import Instance, Port

VOLUME_ID = "cidata"
"""By which cloud-init finds the drive."""

_UNFIT_FOR_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""YAML takes these for line breaks or refuses them where JSON does not mind."""

_GATEWAY_KEYS = {4: "gateway4", 6: "gateway6"}
"""Old keys, but cloud-init 22.4 (Debian 12) reads no ``to: default`` and turns a route to ``::/0`` into ``::/64``."""


def make_files(instance: Instance) -> dict[str, bytes]:
    """The drive's files, by name. The same instance makes the same files."""
    return {
        "meta-data": _encode(_meta_data(instance)),
        "user-data": base64.b64decode(instance.user_data or ""),
        "vendor-data": b"",
        "network-config": _encode(_network_config(instance)),
    }


def hostname(instance: Instance) -> str:
    """The guest's host name: as ordered, or what remains of the instance's name."""
    if instance.hostname is not None:
        return instance.hostname
    label = re.sub("[^a-z0-9]+", "-", instance.name.lower())[:63].strip("-")
    return label or f"server-{instance.uuid}"


def _meta_data(instance: Instance) -> Mapping[str, object]:
    return {
        "instance-id": instance.uuid,
        "local-hostname": hostname(instance),
        "public-keys": instance.ssh_keys,
        "meta": instance.metadata,
    }


def _network_config(instance: Instance) -> Mapping[str, object]:
    return {"version": 2, "ethernets": {f"net{index}": _ethernet(port) for index, port in enumerate(instance.ports)}}


def _ethernet(port: Port) -> Mapping[str, object]:
    link: dict[str, object] = {"match": {"macaddress": port.mac_address}, "mtu": port.mtu}
    if not port.fixed_ips:
        return link | {"dhcp4": True}
    addresses: list[str] = []
    for fixed_ip in port.fixed_ips:
        network = ip_network(fixed_ip.subnet.cidr)
        addresses.append(f"{fixed_ip.ip_address}/{network.prefixlen}")
        if fixed_ip.subnet.gateway_ip:
            link.setdefault(_GATEWAY_KEYS[network.version], fixed_ip.subnet.gateway_ip)
    servers = dict.fromkeys(server for fixed_ip in port.fixed_ips for server in fixed_ip.subnet.dns_nameservers)
    if servers:  # cloud-init complains about an empty list
        link["nameservers"] = {"addresses": list(servers)}
    return link | {"addresses": addresses}


def _encode(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
    return _UNFIT_FOR_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode() + b"\n"
