"""What a controller does in these tests, in few words."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from compute_agent.instance.block_device import BlockDevice, Image, SourceFile
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import DirectBoot, Flavor, Instance, Port
from compute_agent.instance.view import Accepted, InstanceView, OperationState, OperationView
from compute_agent.rpc.client import ComputeClient
from sandbox import audit, images
from sandbox.node import Node
from sandbox.switch import Switch

BOOT_SECONDS = 180.0
"""A tiny guest needs 3 to 6 s on an idle machine, 15 in a virtual host."""

_HALT = bytes.fromhex("faf4ebfc")
"""cli; hlt; jmp to the hlt"""

_numbers = count(11)

T = TypeVar("T")


def until(what: Callable[[], T], seconds: float = 20.0, every: float = 0.05) -> T:
    """Ask again and again until the answer is not false; less often the longer it takes, for it costs the asked."""
    began = time.monotonic()
    while not (answer := what()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s"
        time.sleep(min(max(every, waited / 10), 1.0))
    return answer


def a_port(**changes: object) -> Port:
    """A port on br-int with an address of its own MAC."""
    port_id = str(uuid.uuid4())
    mac = "52:54:00:" + ":".join(port_id[at : at + 2] for at in (0, 2, 4))
    return msgspec.structs.replace(Port(id=port_id, mac_address=mac), **changes)


def source(path: object) -> SourceFile:
    """A local file as a controller names it."""
    return SourceFile(url=f"file://{path}", checksum=images.checksum(path))


def halting_image(path: Path) -> Image:
    """A boot sector that stops its CPU, for guests that shall take none of it."""
    path.write_bytes(_HALT.ljust(510, b"\0") + b"\x55\xaa")
    return Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")


def halting_kernel(path: Path) -> SourceFile:
    """A kernel that does the same, by Linux' boot protocol 2.3 (Documentation/arch/x86/boot.rst)."""
    head = bytearray(0x254)
    head[0x1F1], head[0x1FE:0x200] = 1, b"\x55\xaa"  # sectors of set-up, a signature
    head[0x200:0x208] = bytes.fromhex("eb4e") + b"HdrS" + bytes.fromhex("0302")  # a jump to 0x250
    head[0x211], head[0x22C:0x230] = 1, bytes.fromhex("ffffff37")  # high addresses, the highest for a RAM disk
    head[0x250:] = _HALT
    path.write_bytes(head.ljust(2048, b"\0"))
    return source(path)


def an_order(*, ports: int = 1, arguments: str = "", **changes: object) -> Instance:
    """A tiny guest with one blank disk; its first NIC gets 10.77.0.<number>, which is also in its name."""
    number = next(_numbers)
    instance = Instance(
        uuid=str(uuid.uuid4()),
        name=f"guest{number}",
        flavor=Flavor(vcpus=1, memory_mb=128),
        block_devices=[BlockDevice(source_type="blank", size_gb=1)],
        ports=[a_port() for _ in range(ports)],
        direct_boot=DirectBoot(
            kernel=source(images.kernel()),
            ramdisk=source(images.ramdisk()),
            command_line=f"console=ttyS0 quiet ip0=10.77.0.{number}/24 {arguments}".strip(),
        ),
    )
    return msgspec.structs.replace(instance, **changes)


def with_hypervisor(order: Instance, name: HypervisorName) -> Instance:
    """The same with a flavor that wants this one."""
    specs = {**order.flavor.extra_specs, "hw:hypervisor": name}
    return msgspec.structs.replace(order, flavor=msgspec.structs.replace(order.flavor, extra_specs=specs))


def address_of(instance: Instance) -> str:
    """The address of the first NIC."""
    return "10.77.0." + instance.name.removeprefix("guest")


def pings(address: str, size: int = 56) -> bool:
    """One answered ping."""
    command = ["ping", "-c", "1", "-W", "1", "-M", "do", "-s", str(size), address]
    return subprocess.run(command, capture_output=True, timeout=10).returncode == 0


@contextmanager
def leaving_nothing(node: Node, switch: Switch) -> Iterator[Node]:
    """Its agent runs inside; what that has left behind when all instances are terminated is an error."""
    with node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


class Guests:
    """Instances of one node, driven as a controller drives them."""

    def __init__(self, node: Node, hypervisor: HypervisorName | None = None) -> None:
        """`hypervisor`: what all of them shall run on; None: what the node chooses."""
        self.node = node
        self._hypervisor = hypervisor

    @property
    def client(self) -> ComputeClient:
        return self.node.client

    def finish(self, accepted: Accepted, seconds: float = BOOT_SECONDS) -> OperationView:
        """Wait for the end of an operation that has to succeed."""
        operation = self.client.wait(accepted.request_id, seconds)
        assert operation.state is OperationState.DONE, operation.fault
        return operation

    def fail(self, accepted: Accepted, seconds: float = BOOT_SECONDS) -> OperationView:
        """Wait for the end of an operation that has to fail."""
        operation = self.client.wait(accepted.request_id, seconds)
        assert operation.state is OperationState.FAILED
        assert operation.fault is not None
        return operation

    def boot(self, order: Instance | None = None) -> Instance:
        """A running guest, up to user space."""
        order = self.wished(order or an_order())
        self.finish(self.client.build_and_run_instance(order))
        self.await_console(order.uuid, "GUEST READY")
        return order

    def wished(self, order: Instance) -> Instance:
        """The order with a flavor that wants the hypervisor."""
        return with_hypervisor(order, self._hypervisor) if self._hypervisor else order

    def console(self, instance_uuid: str) -> str:
        return self.client.get_console_output(instance_uuid)

    def await_console(self, instance_uuid: str, text: str, times: int = 1) -> None:
        """Wait until the guest has printed `text`."""
        until(lambda: self.console(instance_uuid).count(text) >= times, BOOT_SECONDS)

    def counts(self, instance_uuid: str) -> list[int]:
        """The numbers that a guest booted with ``counter`` has printed so far."""
        return [int(number) for number in re.findall(r"tick (\d+)\r?\n", self.console(instance_uuid))]

    def counter(self, instance_uuid: str) -> int:
        """The last of them; 0 where it has printed none."""
        return next(reversed(self.counts(instance_uuid)), 0)

    def view(self, instance_uuid: str) -> InstanceView:
        return self.client.get_instance(instance_uuid)

    def terminate_all(self) -> None:
        """Every instance of the node, whatever state it is in."""
        pending = [self.client.terminate_instance(view.instance.uuid) for view in self.client.list_instances()]
        for accepted in pending:
            self.finish(accepted)
