"""Orders that contradict themselves are refused with the path of the field."""

from __future__ import annotations

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice, SourceFile
from compute_agent.instance.model import DirectBoot, FixedIp, Instance, Port, Subnet
from compute_agent.storage.checks import check_instance

from .making import UUID, checksum, image_disk, make_instance

DISK = image_disk("http://images/debian", checksum(b""))
KERNEL = SourceFile(url="http://images/kernel", checksum=checksum(b""))
MAC, OTHER = "fa:16:3e:00:00:01", "7e0a2a2c-6a8f-4df6-8a5b-0a9bdf3a1c12"


def blank(**fields: int) -> BlockDevice:
    return BlockDevice(source_type="blank", **fields)


def fixed(address: str = "10.0.0.5", **subnet: object) -> Instance:
    order = {"cidr": "10.0.0.0/24", **subnet}
    port = Port(id=UUID, mac_address=MAC, fixed_ips=[FixedIp(ip_address=address, subnet=Subnet(**order))])
    return make_instance(DISK, ports=[port])


@pytest.mark.parametrize(
    "instance",
    [
        make_instance(DISK),
        make_instance(DISK, blank(size_gb=1)),
        make_instance(direct_boot=DirectBoot(kernel=KERNEL)),
        make_instance(DISK, user_data="aGk=", ssh_keys=["k"], metadata={"k" * 255: ""}),
        make_instance(DISK, config_drive=False),
        fixed(gateway_ip="10.0.0.1", dns_nameservers=["8.8.8.8", "fd00::1"]),
        fixed("fd00::5", cidr="fd00::/64", gateway_ip="fe80::1"),
    ],
)
def test_sound_orders(instance: Instance) -> None:
    check_instance(instance)


@pytest.mark.parametrize(
    ("field", "instance"),
    [
        ("block_devices[0].image", make_instance(BlockDevice(source_type="image", size_gb=1))),
        ("block_devices[0].image.checksum", make_instance(image_disk("http://images/debian", ""))),
        ("block_devices[1].image", make_instance(DISK, BlockDevice(source_type="blank", image=DISK.image, size_gb=1))),
        ("block_devices[1].size_gb", make_instance(DISK, blank())),
        ("block_devices[2].boot_index", make_instance(DISK, *[blank(size_gb=1, boot_index=3)] * 2)),
        ("block_devices", make_instance()),
        ("block_devices", make_instance(blank(size_gb=1))),
        ("user_data", make_instance(DISK, user_data="not base64!")),
        ("user_data", make_instance(DISK, user_data="é")),
        ("metadata", make_instance(DISK, metadata={"k" * 256: ""})),
        ("metadata", make_instance(DISK, metadata={"": ""})),
        ("config_drive", make_instance(DISK, config_drive=False, user_data="aGk=")),
        ("config_drive", make_instance(DISK, config_drive=False, ssh_keys=["k"])),
        (
            "ports[1].mac_address",
            make_instance(DISK, ports=[Port(id=UUID, mac_address=MAC), Port(id=OTHER, mac_address=MAC)]),
        ),
        ("ports[1].id", make_instance(DISK, ports=[Port(id=UUID, mac_address=MAC)] * 2)),
        (
            "ports[1].device_name",
            make_instance(
                DISK,
                ports=[
                    Port(id=UUID, mac_address=MAC, device_name="net1"),
                    Port(id=OTHER, mac_address="fa:16:3e:00:00:02", device_name="net1"),
                ],
            ),
        ),
        ("ports[0].fixed_ips[0].ip_address", fixed("10.0.1.5")),
        ("ports[0].fixed_ips[0].ip_address", fixed("fd00::5")),
        ("ports[0].fixed_ips[0].ip_address", fixed("10.0.0.500")),
        ("ports[0].fixed_ips[0].ip_address", fixed("10.0.0.5/24")),
        ("ports[0].fixed_ips[0].ip_address", fixed("fd00::5%net0", cidr="fd00::/64")),
        ("ports[0].fixed_ips[0].subnet.cidr", fixed(cidr="10.0.0.0/33")),
        ("ports[0].fixed_ips[0].subnet.cidr", fixed(cidr="10.0.0.5/24")),
        ("ports[0].fixed_ips[0].subnet.gateway_ip", fixed(gateway_ip="10.0.1.1")),
        ("ports[0].fixed_ips[0].subnet.gateway_ip", fixed(gateway_ip="fe80::1")),
        ("ports[0].fixed_ips[0].subnet.gateway_ip", fixed(gateway_ip="none")),
        ("ports[0].fixed_ips[0].subnet.dns_nameservers[1]", fixed(dns_nameservers=["8.8.8.8", "dns.example"])),
    ],
)
def test_contradictions(field: str, instance: Instance) -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_instance(instance)
    assert caught.value.field == f"instance.{field}"


def test_user_data_stays_out_of_the_answer() -> None:
    with pytest.raises(InvalidMessage) as caught:
        check_instance(make_instance(DISK, user_data="password=hunter2!"))
    assert "hunter2" not in str(caught.value)
