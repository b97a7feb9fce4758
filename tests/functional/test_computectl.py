"""computectl against a real agent, as an operator types it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import time
from collections.abc import Iterator

import pytest

from compute_agent.errors import HostInMaintenance
from sandbox import images
from sandbox.node import Node
from tests.functional.guests import Guests, an_order, until
from tests.functional.operator import KERNEL_ARGUMENTS, Operator


@pytest.fixture
def operator(node: Node, guests: Guests) -> Iterator[Operator]:
    """On the node; what was booted is terminated afterwards."""
    yield Operator(node)


def test_a_life_from_the_command_line(operator: Operator, guests: Guests) -> None:
    uuid = operator.boots("anna")
    guests.await_console(uuid, "GUEST READY")
    (row,) = operator.json("list")  # type: ignore[misc]
    assert (row["uuid"], row["name"], row["vm_state"]) == (uuid, "anna", "active")
    assert "GUEST READY" in operator.types("console", "anna").stdout
    for words, state in (
        (("pause", "anna"), "paused"),
        (("unpause", uuid[:8]), "active"),
        (("suspend", "anna"), "suspended"),
        (("resume", "anna"), "active"),
        (("stop", "anna", "--timeout", "20"), "stopped"),
        (("start", "anna"), "active"),
        (("reboot", "anna", "--hard"), "active"),
    ):
        operator.types(*words, "--wait")
        assert guests.view(uuid).vm_state == state
    assert operator.json("diagnostics", "anna")
    operations = operator.json("operation", "list")
    assert isinstance(operations, list)
    assert operations[0]["operation"] == "reboot"
    operator.types("operation", "show", operations[0]["request_id"])
    operator.types("terminate", "anna", "--wait")
    assert operator.json("list") == []


def test_host_show(operator: Operator, node: Node) -> None:
    shown = operator.json("host", "show")
    assert isinstance(shown, dict)
    assert shown["host"] == node.host


def test_a_host_is_taken_out_of_use_and_put_into_use_again(operator: Operator, node: Node, guests: Guests) -> None:
    order = guests.boot()
    try:
        stays = operator.types("drain", "--to", "elsewhere", status=1)
        assert f"still on {node.host}: {order.name}" in stays.stderr and "elsewhere" in stays.stdout
        with pytest.raises(HostInMaintenance, match=node.host):
            node.client.build_and_run_instance(an_order())
    finally:
        assert operator.json("drain", "--undo") == []
    guests.boot()


def test_what_cpus_a_host_can_give(operator: Operator, node: Node) -> None:
    cpu = node.client.get_cpu()
    assert "sse2" in cpu.features and set(cpu.models["qemu64-v1"]) <= set(cpu.features)
    refused = operator.types("cpu", "baseline", node.host, status=1)
    assert f"without KVM no guest moves while it runs: {node.host}" in refused.stderr


def test_errors_say_what_to_do_next(operator: Operator) -> None:
    operator.boots("boris")
    for words, status, says in (
        (("start", "boris"), 1, "is active: start needs it to be stopped"),
        (("show", "nobody"), 1, "nobody"),
        (("--host", "elsewhere", "list"), 1, "elsewhere"),
        (("boot", "x", "--vcpus", "none"), 2, "--vcpus"),
    ):
        refused = operator.types(*words, status=status)
        assert says in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_repeated_boot_with_one_request_id_boots_one_guest(operator: Operator, guests: Guests) -> None:
    request = ["--request-id", "9c1f3f3e-0d5c-4a52-8d3c-0a9d8a3ad111"]
    files = ["--kernel", str(images.kernel()), "--ramdisk", str(images.ramdisk()), "--append", KERNEL_ARGUMENTS]
    words = ["boot", "carla", "--vcpus", "1", "--memory", "128", *files, *request, "--wait"]
    assert operator.types(*words).stdout
    assert operator.types(*words).stdout
    assert len(guests.client.list_instances()) == 1


def test_the_interactive_console_and_its_escape_key(operator: Operator, guests: Guests) -> None:
    guests.await_console(operator.boots("dora"), "GUEST READY")
    master, slave = pty.openpty()
    command = operator.command("console", "dora", "--interactive")
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as console:
        os.close(slave)
        heard = bytearray()

        def hears(text: bytes) -> bool:
            os.set_blocking(master, False)
            with contextlib.suppress(OSError):
                heard.extend(os.read(master, 4096))
            return text in heard

        until(lambda: hears(b"Ctrl-]"))  # it says how to leave
        os.write(master, b"\recho typed-$((6*7))\r")
        until(lambda: hears(b"typed-42"))
        os.write(master, b"\x1d")
        deadline = time.monotonic() + 10
        while console.poll() is None and time.monotonic() < deadline:
            hears(b"")
        assert console.wait(1) == 0
    os.close(master)
