"""Types of command line arguments. Each raises ArgumentTypeError, which argparse turns into a usage error."""

from __future__ import annotations

import argparse
import ipaddress
import re
import uuid
from pathlib import Path

_MEMORY_UNITS = {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
_PORT_KEYS = ("id", "mac", "bridge", "vlan", "mtu", "ip", "gateway", "dns")


def memory_mb(text: str) -> int:
    """MiB: ``512``, ``512M``, ``2G`` or ``2GiB``."""
    match = re.fullmatch(r"(\d+)([MGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512, 512M or 2G")
    return int(match[1]) * _MEMORY_UNITS[match[2].upper()]


def seconds(text: str) -> float:
    """A time from 0 s on."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def uuid_text(text: str) -> str:
    """A uuid, in lower case and with hyphens."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a uuid") from None


def readable_file(text: str) -> Path:
    """The absolute path of a file that this user may read."""
    path = Path(text).absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return path


def key_value(text: str) -> tuple[str, str]:
    """``key=value``; the value may hold more equals signs."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def port(text: str) -> dict[str, object]:
    """A port in the shape of RPC, from ``key=value,…``; `id` and `mac_address` are left out where not given."""
    values = _port_values(text)
    details: dict[str, object] = {}
    if "bridge" in values:
        details["bridge_name"] = values["bridge"]
    if "vlan" in values:
        details["vlan"] = positive(values["vlan"])
    port: dict[str, object] = {"details": details, "fixed_ips": _fixed_ips(values)}
    if "mtu" in values:
        port["mtu"] = positive(values["mtu"])
    if "id" in values:
        port["id"] = uuid_text(values["id"])
    if "mac" in values:
        port["mac_address"] = values["mac"].lower()
    return port


def _port_values(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, value = key_value(part)
        if key not in _PORT_KEYS:
            raise argparse.ArgumentTypeError(f"unknown key {key!r}, the keys are {', '.join(_PORT_KEYS)}")
        if key in values:
            raise argparse.ArgumentTypeError(f"{key!r} is given twice")
        values[key] = value
    return values


def _fixed_ips(values: dict[str, str]) -> list[dict[str, object]]:
    if "ip" not in values:
        if "gateway" in values or "dns" in values:
            raise argparse.ArgumentTypeError("gateway and dns need an ip")
        return []
    address = _interface(values["ip"])
    subnet: dict[str, object] = {"cidr": str(address.network)}
    if "gateway" in values:
        subnet["gateway_ip"] = values["gateway"]
    if "dns" in values:
        subnet["dns_nameservers"] = [values["dns"]]
    return [{"ip_address": str(address.ip), "subnet": subnet}]


def _interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    if "/" not in text:
        raise argparse.ArgumentTypeError(f"ip={text} lacks the length of its network's prefix, such as {text}/24")
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"ip={text}: {error}") from None
