"""Commands that ask: what they print, in which formats, and which instance they mean."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
import yaml

from compute_agent.instance.model import FixedIp, Port, Subnet
from compute_agent.instance.view import Fault, OperationState, StepState
from tests.unit.cli.conftest import DB1, WEB1, WEB2, Shell
from tests.unit.cli.fake_client import an_instance, an_operation

PORT = Port(
    id="11111111-0000-4000-8000-000000000001",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=[FixedIp(ip_address="10.0.0.5", subnet=Subnet(cidr="10.0.0.0/24"))],
)


def test_list_as_a_table(shell: Shell) -> None:
    shell.client.instances = [an_instance(WEB1, "web1", ports=[PORT])]
    run = shell("list")
    assert run.status == 0
    assert [cell.strip() for cell in run.stdout.splitlines()[3].split("|")[1:-1]] == [
        WEB1, "web1", "active", "running", "-", "1", "512", "10.0.0.5",
    ]  # fmt: skip


def test_an_empty_list(shell: Shell) -> None:
    shell.client.instances = []
    assert "| uuid | name |" in shell("list").stdout
    assert shell("list", "-f", "json").json == []
    assert shell("list", "-f", "value").stdout == ""


def test_list_as_data(shell: Shell) -> None:
    shell.client.instances = [an_instance(WEB1, "web1", ports=[PORT])]
    listed = shell("list", "-f", "json").json
    assert listed == yaml.safe_load(shell("list", "-f", "yaml").stdout)
    assert listed[0]["addresses"] == ["10.0.0.5"]
    assert listed[0]["task"] is None
    row = next(csv.DictReader(io.StringIO(shell("list", "-f", "csv", "-c", "uuid", "-c", "memory_mb").stdout)))
    assert row == {"uuid": WEB1, "memory_mb": "512"}


def test_columns_can_be_chosen_for_scripts(shell: Shell) -> None:
    assert shell("list", "-f", "value", "-c", "name", "-c", "vm_state").stdout.splitlines() == [
        "web1 active",
        "web2 active",
        "db1 active",
    ]


def test_a_column_that_is_not_there(shell: Shell) -> None:
    run = shell("list", "-c", "colour")
    assert run.status == 1
    assert "colour" in run.stderr


@pytest.mark.parametrize("meant", [WEB2, WEB2.upper(), "web2", "6fb1b", "6FB1B"])
def test_an_instance_by_uuid_prefix_or_name(shell: Shell, meant: str) -> None:
    assert shell("show", meant, "-f", "json").json["uuid"] == WEB2


def test_an_ambiguous_prefix_lists_its_candidates(shell: Shell) -> None:
    run = shell("show", "6fb1")
    assert run.status == 1
    assert f"{WEB1} (web1) or {WEB2} (web2)" in run.stderr
    assert "uuid" in run.advice


def test_two_instances_of_one_name(shell: Shell) -> None:
    shell.client.instances.append(an_instance("ff000000-0000-4000-8000-000000000004", "db1"))
    run = shell("stop", "db1")
    assert run.status == 1
    assert f"{DB1} (db1) or ff000000-0000-4000-8000-000000000004 (db1)" in run.stderr
    assert shell.client.requests == []


def test_an_instance_that_is_not_there(shell: Shell) -> None:
    run = shell("show", "nobody")
    assert run.status == 1
    assert "'nobody' on host node1" in run.stderr
    assert run.advice == "computectl --host node1 list"


def test_a_whole_uuid_is_not_looked_up(shell: Shell) -> None:
    run = shell("show", "ff000000-0000-4000-8000-000000000004")
    assert run.status == 1
    assert run.stderr.startswith("computectl: instance_uuid: no such instance on this host")


def test_show_tells_why_an_instance_is_in_error(shell: Shell) -> None:
    broken = msgspec.structs.replace(an_instance(WEB1, "web1"), fault=Fault(type="StorageError", message="no space"))
    shell.client.instances = [broken]
    assert "message: no space" in shell("show", "web1").stdout
    assert shell("show", "web1", "-f", "json").json["fault"] == {"type": "StorageError", "message": "no space"}


def test_show_keeps_user_data_to_itself(shell: Shell) -> None:
    shell.client.instances = [an_instance(WEB1, "web1", user_data="c2VjcmV0", ssh_keys=["ssh-ed25519 AAAA"])]
    run = shell("show", "web1")
    assert "c2VjcmV0" not in run.stdout
    assert "AAAA" not in run.stdout


def test_diagnostics_and_host(shell: Shell) -> None:
    assert "disk0: read_bytes=7" in shell("diagnostics", "web1").stdout.replace("disks ", "")
    assert shell("diagnostics", "web1", "-f", "json").json["balloon_mb"] is None
    host = shell("host", "show", "-f", "json").json
    assert host["hypervisor"] == {"name": "qemu", "accelerator": "tcg"}
    assert host["storage_qcow2"]["free"] == 2**29
    shown = shell("host", "show").stdout
    assert all(text in shown for text in ("free: 512.0 MiB", "size: 3.0 GiB", "limit: -", "in_use: 1 ", "age: 17 s"))


def test_cached_images(shell: Shell) -> None:
    (image,) = shell("image", "list", "-f", "json").json
    assert (image["checksum"], image["size"], image["used_by"]) == (f"sha256:{'ab' * 32}", 2**30, 3)
    row = next(line for line in shell("image", "list").stdout.splitlines() if "qcow2" in line)
    assert [cell.strip() for cell in row.split("|")][1:4] == ["sha256:abababababab", "qcow2", "1.0 GiB"]


def test_what_was_pruned(shell: Shell) -> None:
    (image,) = shell("image", "prune", "-f", "json").json
    assert (image["size"], shell.client.requests) == (2**30, [("prune_images", {})])


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_what_is_left_over(shell: Shell, options: list[str]) -> None:
    (found,) = shell("reconcile", *options, "-f", "json").json
    assert (found["kind"], found["port_id"], found["due"]) == ("disk", None, True)
    assert shell.client.requests == [("reconcile", {"dry_run": bool(options)})]


def test_what_kvm_is_on_a_host(shell: Shell) -> None:
    host = shell("host", "show", "-f", "json").json
    assert host["kvm"] == {"problem": None, "nested_paging": "NPT"}
    assert host["kvm_missing"] == {"x86_smm": "no secure boot"}
    assert "interrupts: irqfd, ioeventfd" in shell("host", "show").stdout


def test_operations_of_one_instance(shell: Shell) -> None:
    shell("start", "web1")
    run = shell("operation", "list", "--instance", "web1", "--limit", "5", "-f", "json")
    assert shell.client.requests[-1] == ("list_operations", {"instance_uuid": WEB1, "limit": 5})
    assert [row["operation"] for row in run.json] == ["start"]


def test_one_operation_with_its_steps(shell: Shell) -> None:
    shell("stop", "web1", "--request-id", "0c9d2f3a-52e5-4b0c-9ad1-3f1f0f2b7c11")
    shell.client.story = [an_operation(OperationState.RUNNING, 50, shut_down=StepState.INTENDED)]
    run = shell("operation", "show", "0c9d2f3a-52e5-4b0c-9ad1-3f1f0f2b7c11")
    assert "shut_down: intended" in run.stdout


def test_an_operation_that_is_not_there(shell: Shell) -> None:
    run = shell("operation", "show", "0c9d2f3a-52e5-4b0c-9ad1-3f1f0f2b7c11")
    assert run.status == 1
    assert run.advice == "computectl --host node1 operation list"


def test_the_connection_is_closed(shell: Shell) -> None:
    shell("list")
    assert shell.client.closed
