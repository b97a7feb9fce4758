"""A Debian guest, as its controller and its user know it."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import FixedIp, Flavor, Instance, Port, Subnet
from compute_agent.instance.view import Accepted, OperationState, OperationView
from sandbox.commands import SandboxError, run
from sandbox.images import checksum

if TYPE_CHECKING:
    from compute_agent.rpc.client import ComputeClient

NETWORK = "10.77.0.0/24"
HOST_ADDRESS = "10.77.0.1/24"
_USER = "debian"
_OPERATION_TIMEOUT = 120.0
_BOOT_TIMEOUT = 240.0
_LOOK_AGAIN = 0.25
"""Seconds between two looks at a console."""
_CLOUD_INIT_DONE = "finished at"
"""cloud-init's last line begins with its version and says this; once a boot."""


class Guest:
    """One instance of the demo: ordered over the queue, reached over the switch."""

    def __init__(self, client: ComputeClient, name: str, number: int, image: Path, keys: Path) -> None:
        """`number` is the last part of its address; `keys` the directory made by `make_keys`."""
        self.name = name
        self.address = f"10.77.0.{number}"
        self._client = client
        self._keys = keys
        self.order = _order(name, self.address, image, (keys / "id.pub").read_text().strip())

    @property
    def uuid(self) -> str:
        """The instance's."""
        return self.order.uuid

    def finish(self, accepted: Accepted, on_progress: Callable[[OperationView], None] | None = None) -> OperationView:
        """Wait until an operation is done.

        :raises SandboxError: it failed.
        """
        operation = self._client.wait(accepted.request_id, _OPERATION_TIMEOUT, on_progress)
        if operation.state is not OperationState.DONE:
            raise SandboxError(f"{operation.operation} of {self.name} failed: {operation.fault}")
        return operation

    def console(self) -> list[str]:
        """The lines of its serial console."""
        return self._client.get_console_output(self.uuid).splitlines()

    def await_cloud_init(self, boots: int = 1) -> str:
        """Read the console until cloud-init has ended `boots` times; its last line.

        :raises SandboxError: it takes too long; with the end of the console.
        """
        deadline = time.monotonic() + _BOOT_TIMEOUT
        while (
            len(found := [line for line in self.console() if "Cloud-init" in line and _CLOUD_INIT_DONE in line]) < boots
        ):
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} has not booted:\n" + "\n".join(self.console()[-30:]))
            time.sleep(_LOOK_AGAIN)
        return found[-1]

    def ssh(self, command: str) -> str:
        """What a command prints in the guest.

        :raises SandboxError: it cannot be reached, or the command fails.
        """
        options = ["StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={self._keys / 'hosts'}", "BatchMode=yes"]
        arguments = [word for option in (*options, "ConnectTimeout=15") for word in ("-o", option)]
        return run("ssh", "-q", "-i", self._keys / "id", *arguments, f"{_USER}@{self.address}", command).strip()

    def answers_ping(self) -> bool:
        """One answered ping, from the host through the switch."""
        return (
            subprocess.run(["ping", "-c", "1", "-W", "2", self.address], capture_output=True, timeout=10).returncode
            == 0
        )


def make_keys(directory: Path) -> Path:
    """A directory with a fresh ssh key, ``id`` and ``id.pub``."""
    directory.mkdir()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", directory / "id")
    return directory


def _order(name: str, address: str, image: Path, ssh_key: str) -> Instance:
    port_id = str(uuid.uuid4())
    port = Port(
        id=port_id,
        mac_address="fa:16:3e:" + ":".join(port_id[at : at + 2] for at in (0, 2, 4)),
        fixed_ips=[FixedIp(ip_address=address, subnet=Subnet(cidr=NETWORK))],
    )
    disk = Image(url=image.as_uri(), checksum=checksum(image), disk_format="qcow2")
    return Instance(
        uuid=str(uuid.uuid4()),
        name=name,
        hostname=name,
        flavor=Flavor(vcpus=1, memory_mb=512),
        block_devices=[BlockDevice(source_type="image", image=disk, size_gb=2, boot_index=0)],
        ports=[port],
        ssh_keys=[ssh_key],
    )
