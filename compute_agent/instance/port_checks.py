"""What an order alone shows to be impossible about ports, as far as types cannot say it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from compute_agent.errors import InvalidMessage
from compute_agent.instance.model import FixedIp, Port, Subnet

_ITS_OWN = ("id", "mac_address", "device_name")
"""What no two ports of an instance may share."""


def check_ports(ports: Sequence[Port]) -> None:
    """Those of an instance that is ordered.

    :raises InvalidMessage: names the first field that is wrong, such as ``instance.ports[0].mac_address``.
    """
    for index, port in enumerate(ports):
        check_port(f"instance.ports[{index}]", port, ports[:index], "is used twice")


def check_port(field: str, port: Port, others: Sequence[Port], reason: str) -> None:
    """:raises InvalidMessage: names what is wrong within `field`; or what `others` have, for that `reason`."""
    for name in _ITS_OWN:
        value = getattr(port, name)
        if value is not None and value in [getattr(other, name) for other in others]:
            raise InvalidMessage(f"{field}.{name}", value, reason)
    for number, fixed_ip in enumerate(port.fixed_ips):
        _check_fixed_ip(f"{field}.fixed_ips[{number}]", fixed_ip)


def _check_fixed_ip(field: str, fixed_ip: FixedIp) -> None:
    network = _network(f"{field}.subnet.cidr", fixed_ip.subnet.cidr)
    address = _address(f"{field}.ip_address", fixed_ip.ip_address)
    if address not in network:
        raise InvalidMessage(f"{field}.ip_address", fixed_ip.ip_address, f"is not in {network}")
    _check_subnet(f"{field}.subnet", fixed_ip.subnet, network)


def _check_subnet(field: str, subnet: Subnet, network: IPv4Network | IPv6Network) -> None:
    if subnet.gateway_ip is not None:
        gateway = _address(f"{field}.gateway_ip", subnet.gateway_ip)
        routed_by_link = gateway.version == 6 and network.version == 6 and gateway.is_link_local
        if gateway not in network and not routed_by_link:
            raise InvalidMessage(f"{field}.gateway_ip", subnet.gateway_ip, f"is not in {network}")
    for index, server in enumerate(subnet.dns_nameservers):
        _address(f"{field}.dns_nameservers[{index}]", server)


def _network(field: str, cidr: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(cidr)
    except ValueError as error:
        raise InvalidMessage(field, cidr, f"is not a network: {error}") from error


def _address(field: str, text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise InvalidMessage(field, text, "is not an IP address") from error
    if "%" in text:
        raise InvalidMessage(field, text, "must not name a zone")
    return address
