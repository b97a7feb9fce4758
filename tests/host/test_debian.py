"""A distribution's image on a machine of our own: firmware, its own boot loader, cloud-init, a clean shutdown."""

from __future__ import annotations

import msgspec

from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import FixedIp, Flavor, Instance, Subnet
from laboratory.host import VirtualHost
from sandbox import images
from tests.functional.guests import Guests, a_port, an_order, until

VCPUS = 2
HOSTNAME = "hare"
ADDRESS = "10.77.0.200"
KEY = "/tmp/debian"
MAKE_KEY = f"ssh-keygen -q -t ed25519 -N '' -f {KEY} && cat {KEY}.pub"
OPTIONS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=60")
UP_SECONDS = 480.0
"""A guest of an emulated host, which shares a core with whatever else there is: 90 s where that is nothing."""
OFF_SECONDS = 120


def an_order_for_debian(host: VirtualHost) -> Instance:
    image = images.debian_image()
    source = Image(url=image.as_uri(), checksum=images.checksum(image), disk_format="qcow2")
    address = FixedIp(ip_address=ADDRESS, subnet=Subnet(cidr="10.77.0.0/24"))
    return msgspec.structs.replace(
        an_order(),
        hostname=HOSTNAME,
        flavor=Flavor(vcpus=VCPUS, memory_mb=512),
        block_devices=[BlockDevice(source_type="image", image=source, size_gb=2, boot_index=0)],
        ports=[a_port(fixed_ips=[address])],
        direct_boot=None,
        ssh_keys=[host.run("sh", "-c", MAKE_KEY).strip()],
    )


def test_debian_boots_with_grub_is_set_up_by_cloud_init_and_shuts_down(machines: Guests, host: VirtualHost) -> None:
    order = machines.wished(an_order_for_debian(host))
    machines.finish(machines.client.build_and_run_instance(order))
    until(lambda: "finished at" in machines.console(order.uuid), UP_SECONDS, every=2.0)  # asking takes CPU from it
    assert "GNU GRUB" in machines.console(order.uuid)
    options = [word for option in OPTIONS for word in ("-o", option)]
    inside = host.run("ssh", "-q", "-i", KEY, *options, f"debian@{ADDRESS}", "hostname; nproc", seconds=120)
    assert inside.split() == [HOSTNAME, str(VCPUS)]
    machines.finish(machines.client.stop_instance(order.uuid, timeout=OFF_SECONDS))
    assert "reboot: Power down" in machines.console(order.uuid)
