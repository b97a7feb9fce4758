"""An operation during which the guest's process is killed, alone or with the agent; and what has to hold then."""

from __future__ import annotations

import uuid
from contextlib import suppress
from functools import partial

from compute_agent.errors import InstanceNotFound
from compute_agent.instance.state import LIVING, PowerState, VmState
from compute_agent.instance.view import InstanceView, OperationState, OperationView
from tests.functional.deaths import ROOT_MARK, Case, Scene, ask_in_vain
from tests.functional.disk_deaths import no_copy_is_left
from tests.functional.guests import until
from tests.functional.layer_deaths import has_no_layer

_SECONDS = 90.0
_TOLD = ("GuestGone", "GuestStartFailed")
"""Faults of operations whose guest has ended."""


class Bystander:
    """A guest that must notice nothing."""

    def __init__(self, scene: Scene) -> None:
        self._guests = scene.guests
        self._uuid = scene.boot_guest().uuid
        self._pid = scene.guests.view(self._uuid).pid

    def assert_undisturbed(self) -> None:
        """It runs on in the same process."""
        view = self._guests.view(self._uuid)
        assert (view.pid, view.power_state) == (self._pid, PowerState.RUNNING), view


def lose_process(
    scene: Scene, bystander: Bystander, case: Case, moment: int, *, with_agent: bool
) -> tuple[str, bool | None]:
    """In which moment, and whether the operation was finished all the same; None: there was no process then."""
    scene.renew()
    case.prepare(scene)
    request_id = str(uuid.uuid4())
    ask = partial(ask_in_vain, partial(case.order, scene, request_id))
    with scene.fate.halted(case.operation, moment, ask) as victim:
        had_process = scene.node.end_guest(victim)
        scene.moments, scene.steps, died_in = len(scene.fate.moments()), scene.fate.steps(), scene.fate.last_moment()
        if had_process and with_agent:
            scene.node.kill()
    if scene.node.pid is None:
        scene.node.start()
    operation = scene.client.wait(request_id, _SECONDS)
    _assert_told(operation, had_process)
    case.order(scene, request_id)
    assert scene.client.get_operation(request_id) == operation, "who asks again is told the same"
    if had_process:
        _assert_consistent(scene, victim, died_in)
    _mend(scene, victim)
    _assert_done(scene, case, operation)
    assert scene.is_marked("vda", ROOT_MARK), died_in
    bystander.assert_undisturbed()
    return died_in, (operation.state is OperationState.DONE if had_process else None)


def _assert_told(operation: OperationView, had_process: bool) -> None:
    if operation.state is not OperationState.DONE:
        assert had_process, str(operation.fault)
        fault = operation.fault
        assert fault is not None and fault.type in _TOLD, fault


def _assert_consistent(scene: Scene, victim: str, died_in: str) -> None:
    """At rest the record says what is there, and nothing else is."""
    until(lambda: _is_consistent(scene, victim), _SECONDS)
    scene.node.kill()
    left = scene.leftovers(None)
    scene.node.start()
    assert left == [], f"{died_in}: {left}"


def _is_consistent(scene: Scene, victim: str) -> bool:
    view, is_running = _view(scene, victim), victim in scene.node.running()
    if view is None:
        return not is_running
    return view.task is None and is_running is (view.vm_state in LIVING)


def _view(scene: Scene, victim: str) -> InstanceView | None:
    with suppress(InstanceNotFound):
        return scene.guests.view(victim)
    return None


def _mend(scene: Scene, victim: str) -> None:
    """It runs again, if it is still there and the next case needs it."""
    view = _view(scene, victim)
    if victim == scene.guest.uuid:
        if view is not None and view.vm_state is VmState.STOPPED:
            scene.revive_guest()
    elif view is None:
        scene.other = scene.guest
    elif victim == scene.wanted.uuid:
        scene.other = scene.wanted


def _assert_done(scene: Scene, case: Case, operation: OperationView) -> None:
    """As if nothing had been; or it can be asked for again."""
    if operation.state is OperationState.DONE:
        assert case.changes_state or case.ends_other or case.check(scene)
        return
    for layer in scene.guests.view(scene.guest.uuid).instance.block_devices[0].layers:
        scene.guests.finish(scene.client.volume_snapshot_delete(scene.guest.uuid, "disk0", layer))
    assert scene.root.backend == "rbd" or has_no_layer(scene, scene.guest.uuid)
    if scene.parent_id:
        scene.client.delete_backup(scene.parent_id)
        scene.parent_id = ""
    assert no_copy_is_left(scene)
