"""What a machine of our own cannot begin with: its owner is told what is wrong, and nothing is left in the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.state import VmState
from laboratory.host import VirtualHost
from sandbox import images
from tests.functional.guests import BOOT_SECONDS, Guests, an_order, source, until

MIB = 1024**2
CUT = 4 * MIB


def booted_from(order: Instance, memory_mb: int = 128, **files: Path) -> Instance:
    """The order with another kernel or ramdisk."""
    assert order.direct_boot is not None
    boot = msgspec.structs.replace(order.direct_boot, **{name: source(path) for name, path in files.items()})
    return msgspec.structs.replace(order, direct_boot=boot, flavor=Flavor(vcpus=1, memory_mb=memory_mb))


def a_file(directory: Path, content: bytes) -> Path:
    path = directory / "file"
    path.write_bytes(content)
    return path


def half_a_kernel(order: Instance, sources: Path) -> Instance:
    return booted_from(order, kernel=a_file(sources, images.kernel().read_bytes()[:CUT]))


def a_program(order: Instance, sources: Path) -> Instance:
    return booted_from(order, kernel=a_file(sources, Path("/bin/busybox").read_bytes()))


def a_large_ramdisk(order: Instance, sources: Path) -> Instance:
    return booted_from(order, memory_mb=96, ramdisk=a_file(sources, bytes(32 * MIB)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (half_a_kernel, f"(got {CUT})"),
        (a_program, "kernel: an ELF file, but no kernel"),
        (a_large_ramdisk, "the ramdisk needs a guest of"),
    ],
)
def test_what_cannot_be_started(
    machines: Guests, host: VirtualHost, sources: Path, make: Callable[[Instance, Path], Instance], says: str
) -> None:
    order = machines.wished(make(an_order(), sources))
    fault = machines.fail(machines.client.build_and_run_instance(order)).fault
    assert fault is not None
    assert says in fault.message
    view = machines.view(order.uuid)
    assert (view.vm_state, view.pid, view.fault) == (VmState.ERROR, None, fault)
    assert "qemu-storage-daemon" not in host.run("ps", "-e", "-o", "args")
    assert "tap" not in host.run("ovs-vsctl", "list-ports", "br-int")


def test_the_console_says_that_a_disk_cannot_be_booted_from(machines: Guests, sources: Path) -> None:
    file = source(a_file(sources, bytes(MIB)))
    image = Image(url=file.url, checksum=file.checksum, disk_format="raw")
    disk = BlockDevice(source_type="image", image=image, boot_index=0)
    order = machines.wished(msgspec.structs.replace(an_order(), block_devices=[disk], direct_boot=None))
    machines.finish(machines.client.build_and_run_instance(order))
    until(lambda: "not a bootable disk" in machines.console(order.uuid), BOOT_SECONDS)
