"""The agent against a table of what it promises: any order of operations, deaths of guests and agents among them."""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from compute_agent.agent.admission import admit
from compute_agent.agent.request import Request
from compute_agent.errors import InstanceExists, InstanceNotFound, InvalidState
from compute_agent.instance.view import OperationState
from tests.lifecycle import GONE, RUNNING, VERBS, after
from tests.unit.agent.world import INSTANCE, UUID, Agent, Killed, World

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "6"))
_LEFT = {
    **{GONE: [], "stopped": ["disk"], "suspended": ["disk", "memory"]},
    **{state: ["disk", "port", "guest"] for state in RUNNING},
}
_REFUSALS = (InvalidState, InstanceNotFound, InstanceExists)


class Life(RuleBasedStateMachine):
    """One instance on one host."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm", prefix="model-")
        self.world = World(Path(self._directory.name))
        self.agent = Agent(self.world)
        self.state = GONE
        self.asked: list[Request] = []

    @rule(verb=st.sampled_from(sorted(VERBS)))
    def ask(self, verb: str) -> None:
        """And wait for the end."""
        request, new = _request(verb), after(self.state, verb)
        assert self._is_taken(request) is (new is not None)
        if new is not None:
            self.agent.carry_out(request)
            self._conclude(request, new)

    @rule(first=st.sampled_from(sorted(VERBS)), second=st.sampled_from(sorted(VERBS)))
    def ask_twice_at_once(self, first: str, second: str) -> None:
        """The second is taken before the first has ended, and fails where its turn does not allow it."""
        requests, states = (_request(first), _request(second)), [self.state]
        taken = [one for one in requests if self._is_taken(one)]
        for request in taken:
            verb = first if request is requests[0] else second
            new = after(states[-1], verb)
            if verb != "boot" and states[-1] == GONE:  # what the manager does then
                self.agent.journal.finish(request.request_id, OperationState.FAILED, None)
                continue
            self.agent.carry_out(request)
            assert self._outcome(request) is (OperationState.FAILED if new is None else OperationState.DONE)
            states.append(new or states[-1])
            self.state = states[-1]

    @rule(verb=st.sampled_from(sorted(VERBS)), moment=st.integers(1, 16))
    def die_amid(self, verb: str, moment: int) -> None:
        """The agent is killed at that moment, if there are so many; the next one ends what it began."""
        request, new = _request(verb), after(self.state, verb)
        if not self._is_taken(request):
            return
        self.world.touches.clear()
        self.world.kill_at = moment
        with suppress(Killed):
            self.agent.carry_out(request)
        self._restart()
        assert new is not None
        self._conclude(request, new)

    @rule()
    def repeat_everything(self) -> None:
        """Who got no answer asks again, and starts nothing."""
        for request in self.asked:
            assert not admit(self.agent.node, request)

    @precondition(lambda self: self.state in RUNNING)
    @rule()
    def guest_dies(self) -> None:
        """By itself; the agent is told."""
        self.world.guests.clear()
        self.world.taps.clear()
        arguments: dict[str, object] = {"reason": "crashed", "detail": "killed"}
        request = Request(request_id=str(uuid.uuid4()), operation="guest_exit", instance_uuid=UUID, arguments=arguments)
        assert admit(self.agent.node, request)
        self.agent.carry_out(request)
        self._conclude(request, "stopped")

    @invariant()
    def the_world_is_as_the_journal_says(self) -> None:
        row = self.agent.journal.find_instance(UUID)
        assert (str(row.vm_state) if row else GONE) == self.state
        assert self.world.left_of(UUID) == _LEFT[self.state]
        assert self.agent.journal.unfinished() == []

    def _is_taken(self, request: Request) -> bool:
        try:
            assert admit(self.agent.node, request)
        except _REFUSALS:
            return False
        self.asked.append(request)
        return True

    def _conclude(self, request: Request, new: str) -> None:
        assert self._outcome(request) is OperationState.DONE
        self.state = new

    def _outcome(self, request: Request) -> OperationState:
        return self.agent.journal.operation(request.request_id).state

    def _restart(self) -> None:
        self.agent.journal.close()
        self.world.kill_at = None
        self.agent = Agent(self.world)
        self.agent.recover()

    def teardown(self) -> None:
        self.agent.journal.close()
        self._directory.cleanup()


def _request(verb: str) -> Request:
    kind, _, name = verb.rpartition(" ")
    return Request(
        request_id=str(uuid.uuid4()),
        operation=name,
        instance_uuid=UUID,
        arguments={"reboot_type": kind.upper()} if kind else {},
        instance=INSTANCE if verb == "boot" else None,
    )


def test_any_life() -> None:
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=20, derandomize=EXAMPLES < 10, deadline=None)
    run_state_machine_as_test(Life, settings=chosen)  # type: ignore[no-untyped-call]
