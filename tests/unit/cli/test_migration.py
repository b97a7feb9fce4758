"""Guests that move to other hosts, on the command line."""

from __future__ import annotations

import pytest

from compute_agent.errors import InvalidState
from compute_agent.instance.view import Fault, OperationState
from tests.unit.cli.conftest import REQUEST, WEB1, Shell
from tests.unit.cli.fake_client import an_operation


def test_a_guest_is_sent_to_another_host(shell: Shell) -> None:
    assert shell("migrate", "web1", "node2", "--request-id", REQUEST).status == 0
    sent = {"instance_uuid": WEB1, "dest": "node2", "request_id": REQUEST}
    assert shell.client.requests == [("live_migration", sent)]


def test_one_that_is_stopped_is_sent_with_its_disks(shell: Shell) -> None:
    assert shell("migrate", "web1", "node2", "--cold", "--request-id", REQUEST).status == 0
    assert shell("migrate", "web1", "node2", "--cold", "--stop", "--request-id", REQUEST).status == 0
    sent = {"instance_uuid": WEB1, "dest": "node2", "request_id": REQUEST}
    assert shell.client.requests == [("migrate", sent | {"stop": stop}) for stop in (False, True)]
    assert shell("migrate", "web1", "node2", "--stop").status == 2


def test_a_refusal_says_where_the_guest_is(shell: Shell) -> None:
    fault = Fault(type="MigrationRefused", message="cpu features: missing here: avx512f")
    shell.client.story = [an_operation(OperationState.FAILED, fault=fault)]
    run = shell("migrate", "web1", "node2", "--wait")
    assert run.status == 1
    assert "missing here: avx512f" in run.stderr and "the guest is where it was" in run.stderr


@pytest.mark.parametrize("wish", ["abort", "force-complete"])
def test_one_that_moves_is_called_back_or_hurried(shell: Shell, wish: str) -> None:
    assert shell("migration", wish, "web1").status == 0
    assert shell.client.requests == [(f"live_migration_{wish.replace('-', '_')}", {"instance_uuid": WEB1})]
    shell.client.raises = InvalidState(WEB1, "to abort a migration", "active", "on its way to another host")
    assert shell("migration", wish, WEB1).status == 1
