"""What happens to guests without being asked for, as cases of deaths: who looks into it dies."""

from __future__ import annotations

import os
import signal

from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import InstanceView
from compute_agent.storage.server.launch import find_servers
from tests.functional.deaths import ROOT_MARK, VOLUME_MARK, Case, Scene
from tests.functional.guests import until
from tests.functional.life_deaths import have_other


def _end_other(scene: Scene, _: str) -> None:
    os.kill(scene.guests.view(scene.other.uuid).pid or 0, signal.SIGKILL)


def _start_other(scene: Scene) -> None:
    """By this very agent: no other one can tell how it ended."""
    have_other(scene, VmState.STOPPED)
    have_other(scene)


def _other_has_crashed(scene: Scene) -> bool:
    """Its end is told, once it has been put away."""
    view = until(lambda: _at_rest(scene, scene.other.uuid))
    assert view.fault is not None
    return (view.vm_state, view.power_state) == (
        VmState.STOPPED,
        PowerState.CRASHED,
    ) and "SIGKILL" in view.fault.message


def _end_block_server(scene: Scene, _: str) -> None:
    servers = find_servers(scene.node.directory / "run/servers")
    os.kill(servers[scene.guest.uuid].pid, signal.SIGKILL)


def _writes(scene: Scene) -> bool:
    """To all of its disks, as if nothing had been."""
    scene.mark("vda", ROOT_MARK)
    scene.mark("vdb", VOLUME_MARK)
    return until(lambda: _at_rest(scene, scene.guest.uuid)).fault is None


def _at_rest(scene: Scene, instance_uuid: str) -> InstanceView | None:
    """What it is when nothing is done about it."""
    view = scene.guests.view(instance_uuid)
    return None if view.task else view


INCIDENTS = {
    "the guest ends": Case(
        operation="guest_exit",
        prepare=_start_other,
        order=_end_other,
        check=_other_has_crashed,
        changes_state=True,
        is_asked=False,
    ),
    "the block server ends": Case(
        operation="reconnect_disks",
        prepare=lambda scene: scene.have_volume(True),
        order=_end_block_server,
        check=_writes,
        is_asked=False,
    ),
}
