"""Bad messages are refused with the path of the field, whatever they are."""

from __future__ import annotations

import math
from typing import Any

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.rpc.decode import MAX_SIZE, decode
from compute_agent.rpc.messages.instances import BuildAndRunInstance, StopInstance

UUID = "11111111-2222-4333-8444-555555555555"


def boot(**changes: object) -> dict[str, Any]:
    instance = {"uuid": UUID, "name": "web", "flavor": {"vcpus": 1, "memory_mb": 64}} | changes
    return {"request_id": UUID, "instance": instance}


def stop(**changes: object) -> dict[str, Any]:
    return {"request_id": UUID, "instance_uuid": UUID} | changes


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def refusal(verb: str, arguments: Any) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        decode(verb, arguments)
    return caught.value


def test_a_good_message_gets_its_defaults() -> None:
    message = decode("stop_instance", stop())
    assert message == StopInstance(request_id=UUID, instance_uuid=UUID, timeout=None)
    assert isinstance(decode("build_and_run_instance", boot()), BuildAndRunInstance)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"flavor": {"vcpus": 0, "memory_mb": 64}}, "instance.flavor.vcpus", 0),
        ({"flavor": {"vcpus": 10**30, "memory_mb": 64}}, "instance.flavor.vcpus", 10**30),
        ({"flavor": {"vcpus": "2", "memory_mb": 64}}, "instance.flavor.vcpus", "2"),
        ({"flavor": {"memory_mb": 64}}, "instance.flavor.vcpus", None),
        ({"colour": "blue"}, "instance.colour", "blue"),
        ({"ports": [{"id": UUID, "mac_address": "52:54"}]}, "instance.ports[0].mac_address", "52:54"),
        ({"block_devices": [{"source_type": "tape"}]}, "instance.block_devices[0].source_type", "tape"),
        ({"block_devices": 5}, "instance.block_devices", 5),
        ({"name": "two\nlines"}, "instance.name", "two\nlines"),
        ({"name": "newline at the end\n"}, "instance.name", "newline at the end\n"),
        ({"uuid": UUID + "\n"}, "instance.uuid", UUID + "\n"),
        ({"metadata": {"key": 1}}, "instance.metadata[...]", "object of 1 fields"),
        ({"metadata": {1: "value"}}, "instance.metadata", "object of 1 fields"),
        ({5: 5}, "instance", "object of 4 fields"),
    ],
)
def test_the_field_and_its_value_are_named(changes: dict[str, object], field: str, value: object) -> None:
    message = boot()
    message["instance"] |= changes
    error = refusal("build_and_run_instance", message)
    assert (error.field, error.value) == (field, value)
    assert str(error).startswith(f"{field}: ")


def test_fields_of_the_message_itself() -> None:
    assert refusal("stop_instance", {"request_id": UUID}).args == ("instance_uuid", None, "required field is missing")
    assert refusal("list_instances", {"host": "a"}).args == ("host", "a", "unknown field")
    assert refusal("stop_instance", stop(timeout=-1)).field == "timeout"
    assert refusal("get_console_output", {"instance_uuid": UUID, "length": 10**9}).field == "length"


@pytest.mark.parametrize("timeout", [math.nan, math.inf])
def test_numbers_that_json_does_not_have(timeout: float) -> None:
    assert "not JSON" in refusal("stop_instance", stop(timeout=timeout)).reason


def test_half_a_character() -> None:
    assert "not JSON" in refusal("build_and_run_instance", boot(name="half \ud800")).reason


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deep_nesting(depth: int) -> None:
    assert refusal("build_and_run_instance", boot(ports=nested(depth))).field in ("instance.ports[0]", "message")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"a\n2026-01-01 ERROR": 5}, r"a\n2026-01-01 ERROR"),
        ({"x" * 5000: 5}, "x" * 255 + "..."),
        (stop(reboot_type="SOFT\nERROR"), "reboot_type"),
    ],
)
def test_what_a_sender_calls_things_is_no_line_of_the_log(arguments: dict[str, object], field: str) -> None:
    error = refusal("reboot_instance" if "reboot_type" in arguments else "list_instances", arguments)
    assert error.field == field
    assert str(error).isprintable()


def test_the_size_is_bounded() -> None:
    error = refusal("build_and_run_instance", boot(metadata={"a": "x" * MAX_SIZE}))
    assert error.field == "message"
    assert str(MAX_SIZE) in error.reason


def test_long_values_are_not_repeated() -> None:
    secret = "secret" * 30_000
    error = refusal("build_and_run_instance", boot(user_data=secret))
    assert error.field == "instance.user_data"
    assert error.value == "text of 180000 characters"
    assert "secret" not in str(error)


@pytest.mark.parametrize("target", ["nbd://host", "nbd:///x", "rbd://x", "nbd://host:1/x y", "file:///x", ""])
def test_a_backup_goes_to_what_can_be_meant(target: str) -> None:
    refused = refusal("backup_instance", stop(backup_id=UUID, target=target))
    assert (refused.field, refused.value) == ("target", target)
    decode("backup_instance", stop(backup_id=UUID, target="nbd://[::1]:10809/web1-"))
