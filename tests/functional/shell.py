"""Commands inside a tiny guest, over its serial console."""

from __future__ import annotations

from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.state import VmState
from tests.functional.guests import Guests, until
from tests.functional.over_console import run_over


def attach(guests: Guests, instance_uuid: str, device: BlockDevice) -> None:
    """Returns when a guest that runs has found the disk, which is some time after the operation's end."""

    def disks() -> str:
        return run_inside(guests, instance_uuid, "ls /sys/block")

    is_running = guests.view(instance_uuid).vm_state is VmState.ACTIVE
    before = disks() if is_running else ""
    guests.finish(guests.client.attach_volume(instance_uuid, device))
    if is_running:
        until(lambda: disks() != before)


def run_inside(guests: Guests, instance_uuid: str, command: str, seconds: float = 30.0) -> str:
    """What the command printed; it has to succeed."""
    where = guests.client.get_serial_console(instance_uuid)
    return run_over(Path(str(where["path"])), command, seconds)


def await_inside(guests: Guests, instance_uuid: str, condition: str) -> None:
    """Wait until a command in the guest succeeds."""
    run_inside(guests, instance_uuid, f"until {condition}; do sleep 0.1; done")
