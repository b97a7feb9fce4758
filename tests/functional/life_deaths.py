"""An instance's life, as cases of deaths: every verb of it, of an instance beside the one that must notice nothing."""

from __future__ import annotations

from collections.abc import Callable

from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import Accepted
from compute_agent.rpc.client import ComputeClient
from tests.functional.deaths import Case, Order, Scene

_TIMEOUT = 0.5
"""Seconds that a guest has to shut down in; it has no system that could."""

_BACK: dict[VmState, Callable[[ComputeClient, str], Accepted]] = {
    VmState.STOPPED: lambda client, uuid: client.start_instance(uuid),
    VmState.PAUSED: lambda client, uuid: client.unpause_instance(uuid),
    VmState.SUSPENDED: lambda client, uuid: client.resume_instance(uuid),
}


_AWAY: dict[VmState, Callable[[ComputeClient, str], Accepted]] = {
    VmState.STOPPED: lambda client, uuid: client.stop_instance(uuid, timeout=0),
    VmState.PAUSED: lambda client, uuid: client.pause_instance(uuid),
    VmState.SUSPENDED: lambda client, uuid: client.suspend_instance(uuid),
}


def have_other(scene: Scene, state: VmState = VmState.ACTIVE) -> None:
    """There is another instance, in this state; from any."""
    if scene.other is scene.guest:
        scene.boot_other()
    uuid = scene.other.uuid
    present = scene.guests.view(uuid).vm_state
    if present is not VmState.ACTIVE and present is not state:
        scene.guests.finish(_BACK[present](scene.client, uuid))
        present = VmState.ACTIVE
    if present is not state:
        scene.guests.finish(_AWAY[state](scene.client, uuid))


def order_another(scene: Scene) -> None:
    """None is there; what is to be booted is known."""
    scene.end_other()
    scene.wanted = scene.an_order(config_drive=True)


def is_there(scene: Scene) -> bool:
    """It runs, and comes up."""
    scene.other = scene.wanted
    scene.guests.await_console(scene.other.uuid, "GUEST READY")
    return _is(scene, VmState.ACTIVE, PowerState.RUNNING)


def _is(scene: Scene, state: VmState, power: PowerState) -> bool:
    view = scene.guests.view(scene.other.uuid)
    return (view.vm_state, view.power_state, view.task, view.fault) == (state, power, None, None)


def _case(
    operation: str, before: VmState, order: Order, state: VmState, power: PowerState = PowerState.RUNNING
) -> Case:
    return Case(
        operation=operation,
        prepare=lambda scene: have_other(scene, before),
        order=order,
        check=lambda scene: _is(scene, state, power),
        changes_state=True,
    )


LIFE = {
    "boot": Case(
        operation="boot",
        prepare=order_another,
        order=lambda scene, asked: scene.client.build_and_run_instance(scene.wanted, asked),
        check=is_there,
        changes_state=True,
    ),
    "stop": _case(
        "stop",
        VmState.ACTIVE,
        lambda scene, asked: scene.client.stop_instance(scene.other.uuid, asked, timeout=_TIMEOUT),
        VmState.STOPPED,
        PowerState.SHUTDOWN,
    ),
    "start": _case(
        "start",
        VmState.STOPPED,
        lambda scene, asked: scene.client.start_instance(scene.other.uuid, asked),
        VmState.ACTIVE,
    ),
    "soft reboot": _case(
        "reboot",
        VmState.ACTIVE,
        lambda scene, asked: scene.client.reboot_instance(
            scene.other.uuid, asked, reboot_type="SOFT", timeout=_TIMEOUT
        ),
        VmState.ACTIVE,
    ),
    "hard reboot": _case(
        "reboot",
        VmState.ACTIVE,
        lambda scene, asked: scene.client.reboot_instance(scene.other.uuid, asked, reboot_type="HARD"),
        VmState.ACTIVE,
    ),
    "pause": _case(
        "pause",
        VmState.ACTIVE,
        lambda scene, asked: scene.client.pause_instance(scene.other.uuid, asked),
        VmState.PAUSED,
        PowerState.PAUSED,
    ),
    "unpause": _case(
        "unpause",
        VmState.PAUSED,
        lambda scene, asked: scene.client.unpause_instance(scene.other.uuid, asked),
        VmState.ACTIVE,
    ),
    "suspend": _case(
        "suspend",
        VmState.ACTIVE,
        lambda scene, asked: scene.client.suspend_instance(scene.other.uuid, asked),
        VmState.SUSPENDED,
        PowerState.SUSPENDED,
    ),
    "resume": _case(
        "resume",
        VmState.SUSPENDED,
        lambda scene, asked: scene.client.resume_instance(scene.other.uuid, asked),
        VmState.ACTIVE,
    ),
}
