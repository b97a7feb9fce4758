"""Carries out one operation: step by step with the journal ahead of it, backwards when a step fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from compute_agent.agent.announcer import Announcer
from compute_agent.agent.journal import InstanceRow, OperationRow
from compute_agent.agent.node import Node
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations import operation_of
from compute_agent.agent.operations.power import GUEST_EXIT
from compute_agent.agent.work import Work
from compute_agent.errors import ComputeAgentError, InvalidState, JournalError, MigrationRefused
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import LIVING, VmState
from compute_agent.instance.view import Fault, OperationState, StepDetails, StepState

LOG = logging.getLogger(__name__)

PROGRESS_INTERVAL = 1.0
"""Seconds between two notes of a step's progress."""


SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 10.0
"""Seconds between two attempts at a step that has to succeed."""

_FAULTS = {
    ("guest_exit", "crashed"): "GuestGone",
    ("disk_error", "no_space"): "InsufficientResources",
    ("disk_error", "io_error"): "StorageError",
}
"""What it means for an instance that something happened to its guest."""


def fault_of(error: Exception) -> Fault:
    """What a controller is told about an exception."""
    if isinstance(error, ComputeAgentError):
        return Fault(type=type(error).__name__, message=str(error))
    return Fault(type="ComputeAgentError", message=f"internal error: {type(error).__name__}: {error}")


def check_state(operation: Operation, record: InstanceRecord, state: VmState) -> None:
    """:raises InvalidState: the operation may not start in this state."""
    if state not in operation.allowed:
        raise InvalidState(record.instance.uuid, operation.name, state, " or ".join(sorted(operation.allowed)))


class Execution:
    """One accepted operation on its way to its end; also one that an earlier agent left half done."""

    def __init__(self, node: Node, announcer: Announcer, accepted: OperationRow, row: InstanceRow, work: Work) -> None:
        self._node = node
        self._announcer = announcer
        self._request = accepted.request
        self._operation = operation_of(accepted.request, row.vm_state)
        self._steps = dict(accepted.steps)
        self._resumed = accepted.state is OperationState.RUNNING
        self._row = row
        self._work = work
        self._just_done: Step | None = None
        """The journal does not know yet that this step is done: that is written with what comes next."""
        self._percent = accepted.progress
        self._noted_at = 0.0

    def run(self) -> None:
        """Do all steps, or undo those that were begun; either way the journal knows the end.

        :raises JournalError: it does not. Nothing was begun that it does not know of: another execution goes on from
            there, as the next agent would.
        """
        try:
            while not self._try_to_end():
                time.sleep(LONGEST_PAUSE)
        finally:
            self._work.close()
            self._node.ends.wake()

    def _try_to_end(self) -> bool:
        """False: it must not be given up, and nobody foresaw what went wrong."""
        try:
            self._begin()
            for position, step in enumerate(self._operation.steps):
                if self._steps.get(step.name) is not StepState.DONE:
                    self._see_to(position, step)
        except JournalError:
            raise
        except ComputeAgentError as error:
            LOG.error("%s failed: %s", self._operation.name, error)
            self._fail(error)
        except Exception as error:  # the request's outermost edge: a defect of ours is undone and reported too
            LOG.exception("%s failed in a way that nobody foresaw", self._operation.name)
            if self._is_beyond_return:
                return False
            self._fail(error)
        else:
            self._succeed()
        return True

    def _begin(self) -> None:
        if self._resumed or self._steps:
            LOG.info("Going on with %s, which was left unfinished", self._operation.name)
            return
        check_state(self._operation, self._work.record, self._row.vm_state)
        LOG.info("Beginning %s", self._operation.name)

    def _see_to(self, position: int, step: Step) -> None:
        """Do it once; or, where giving up could double or lose a guest, until it is done."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                return self._do(position, step)
            except (MigrationRefused, JournalError):
                raise
            except ComputeAgentError as error:
                if not self._is_beyond_return:
                    raise
                LOG.warning("%s is tried again in %.1f s: %s", step.name, pause, error)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    @property
    def _is_beyond_return(self) -> bool:
        point = self._operation.point_of_no_return
        return point is not None and self._steps.get(point) in (StepState.INTENDED, StepState.DONE)

    def _do(self, position: int, step: Step) -> None:
        with self._node.journal.transaction():
            self._note_what_is_done(position)
            self._set_step(step, StepState.INTENDED)
        self._work.report = lambda percent, details=None: self._report(position, percent, details)
        step.do(self._work)
        self._just_done = step

    def _note_what_is_done(self, steps_done: int) -> None:
        """Part of the transaction that is open: each one costs a wait for the host's disk."""
        if not (self._steps or self._resumed):
            self._node.journal.set_running(self._request.request_id)
            self._announcer.announce(self._request, "start", 0, self._row.vm_state)
        if self._just_done is not None:
            self._set_step(self._just_done, StepState.DONE)
            self._note_progress(steps_done, 0)
            self._just_done = None

    def _set_step(self, step: Step, state: StepState) -> None:
        self._steps[step.name] = state
        self._node.journal.set_step(self._request.request_id, step.name, state)

    def _report(self, position: int, percent: int, details: StepDetails | None) -> None:
        if time.monotonic() - self._noted_at >= PROGRESS_INTERVAL:
            with suppress(JournalError):  # the step need not fail for that
                self._note_progress(position, percent, details)

    def _note_progress(self, steps_done: int, percent_of_next: int, details: StepDetails | None = None) -> None:
        percent = (steps_done * 100 + percent_of_next) // len(self._operation.steps)
        if self._percent < percent < 100 or details is not None:
            self._percent, self._noted_at = max(percent, self._percent), time.monotonic()
            with self._node.journal.transaction():
                self._node.journal.set_progress(self._request.request_id, self._percent, details)
                told = None if details is None else msgspec.to_builtins(details)
                self._announcer.announce(self._request, "progress", self._percent, self._row.vm_state, told)

    def _succeed(self) -> None:
        result = self._operation.result(self._work) if self._operation.result else None
        outcome = self._outcome()  # a guest may be slow to say, and others wait for a transaction's end
        with self._node.journal.transaction():
            self._note_what_is_done(len(self._operation.steps))
            state = self._conclude(outcome)
            self._node.journal.finish(self._request.request_id, OperationState.DONE, None)
            self._announcer.announce(self._request, "end", 100, state, result)
        LOG.info("Finished %s", self._operation.name)

    def _outcome(self) -> VmState | None:
        """What the instance is now; None: no more."""
        outcome = self._operation.outcome
        if outcome == "gone":
            return None
        if outcome == "unchanged":
            return self._row.vm_state
        if outcome != "observed":
            return outcome
        self._put_away_what_ended()
        return self._observed()

    def _observed(self) -> VmState:
        return self._node.observed_state(self._work.uuid, self._row.vm_state)

    def _conclude(self, outcome: VmState | None) -> VmState | None:
        """Part of the transaction that is open."""
        if outcome is None:
            self._node.journal.remove_instance(self._work.uuid)
        elif self._operation.outcome != "unchanged":
            self._node.journal.set_state(self._work.uuid, outcome, self._fault_found())
        return outcome

    def _fault_found(self) -> Fault | None:
        """Why the guest is not running any more, where nobody asked for that."""
        kind = _FAULTS.get((self._request.operation, str(self._request.arguments.get("reason"))))
        return Fault(type=kind, message=str(self._request.arguments.get("detail"))) if kind else None

    def _fail(self, error: Exception) -> None:
        fault = fault_of(error)
        if self._steps:
            self._put_away_what_ended()  # first: an agent that dies in it meets the same error again
            self._undo()
        state = self._fallen_to()
        with self._node.journal.transaction():
            self._fall_back(state, fault)
            self._node.journal.finish(self._request.request_id, OperationState.FAILED, fault)
            self._announcer.announce(self._request, "error", self._percent, state, fault)

    def _fallen_to(self) -> VmState | None:
        """What the instance is when all has been undone; None: no more."""
        failure = self._operation.failure
        if not self._steps:
            return self._row.vm_state
        return None if failure == "gone" else failure or self._observed()

    def _fall_back(self, state: VmState | None, fault: Fault) -> None:
        """Part of the transaction that is open."""
        if state is None:
            self._node.journal.remove_instance(self._work.uuid)
        elif self._steps and self._operation.outcome != "unchanged":
            self._node.journal.set_state(self._work.uuid, state, fault)

    def _put_away_what_ended(self) -> None:
        """What the guest had, if it has ended and this operation is to say so: nobody looks into that any more then."""
        is_told_here = self._row.vm_state in LIVING and self._operation.outcome != "unchanged"
        if is_told_here and self._observed() not in LIVING:
            for step in GUEST_EXIT.steps:
                self._attempt(step.do, f"{step.name}, of a guest that has ended, could not be done")

    def _undo(self) -> None:
        """Take back what was begun, last first. What cannot be taken back now is left to the reconciler."""
        for step in reversed(self._operation.steps):
            if self._steps.get(step.name) in (StepState.INTENDED, StepState.DONE):
                self._undo_step(step)

    def _undo_step(self, step: Step) -> None:
        if self._attempt(step.undo, f"Step {step.name} could not be undone"):
            self._set_step(step, StepState.UNDONE)

    def _attempt(self, do: Callable[[Work], None], complaint: str) -> bool:
        """Whether it was done."""
        try:
            do(self._work)
        except JournalError:
            raise
        except Exception:  # an undo that fails must not keep the others from being done
            LOG.exception(complaint)
            return False
        return True
