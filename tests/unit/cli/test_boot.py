"""boot: from the command line to the instance that is asked for."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compute_agent.instance.block_device import BlockDevice, Image, SourceFile
from compute_agent.instance.model import DirectBoot, FixedIp, Flavor, Instance, Port, PortDetails, Subnet
from compute_agent.instance.view import Fault, OperationState
from tests.unit.cli.conftest import REQUEST, WEB1, Shell
from tests.unit.cli.fake_client import an_operation

CHECKSUM = "sha256:" + "0" * 64
MINIMUM = ("boot", "web9", "--vcpus", "1", "--memory", "512")
REMOTE = ("--image", "http://images/debian.qcow2", "--image-checksum", CHECKSUM)


def sent(shell: Shell) -> Instance:
    """The instance of the last request."""
    operation, arguments = shell.client.requests[-1]
    assert operation == "boot"
    return msgspec.convert(msgspec.to_builtins(arguments["instance"]), Instance)


def a_file(directory: Path, name: str, content: str = "content") -> tuple[str, SourceFile]:
    """A file's path, and how it has to be named in a request."""
    path = directory / name
    path.write_text(content)
    checksum = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    return str(path), SourceFile(url=path.as_uri(), checksum=checksum)


def test_everything_at_once(shell: Shell, tmp_path: Path) -> None:
    image, image_source = a_file(tmp_path, "debian 12.qcow2")
    user_data, _ = a_file(tmp_path, "user-data", "#cloud-config\n")
    key, _ = a_file(tmp_path, "id.pub", "# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n")
    run = shell(
        *MINIMUM, "--uuid", WEB1, "--image", image, "--disk-size", "10", "--blank", "20", "--blank", "30",
        "--port", "id=11111111-0000-4000-8000-000000000001,mac=FA:16:3E:00:00:01,bridge=br-x,vlan=7,mtu=9000,"
        "ip=10.0.0.5/24,gateway=10.0.0.1,dns=10.0.0.2",
        "--user-data", user_data, "--ssh-key", key, "--hostname", "nine", "--metadata", "a=b=c", "--no-config-drive",
    )  # fmt: skip
    assert run.status == 0, run.stderr
    assert sent(shell) == Instance(
        uuid=WEB1,
        name="web9",
        flavor=Flavor(vcpus=1, memory_mb=512),
        hostname="nine",
        block_devices=[
            BlockDevice(
                source_type="image",
                image=Image(url=image_source.url, checksum=image_source.checksum, disk_format="qcow2"),
                size_gb=10,
                boot_index=0,
            ),
            BlockDevice(source_type="blank", size_gb=20),
            BlockDevice(source_type="blank", size_gb=30),
        ],
        ports=[
            Port(
                id="11111111-0000-4000-8000-000000000001",
                mac_address="fa:16:3e:00:00:01",
                details=PortDetails(bridge_name="br-x", vlan=7),
                mtu=9000,
                fixed_ips=[
                    FixedIp(
                        ip_address="10.0.0.5",
                        subnet=Subnet(cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dns_nameservers=["10.0.0.2"]),
                    )
                ],
            )
        ],
        config_drive=False,
        user_data=base64.b64encode(b"#cloud-config\n").decode(),
        ssh_keys=["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"],
        metadata={"a": "b=c"},
    )


def test_an_image_on_a_server(shell: Shell) -> None:
    assert shell(*MINIMUM, *REMOTE).status == 0
    assert sent(shell).block_devices[0].image == Image(
        url="http://images/debian.qcow2", checksum=CHECKSUM, disk_format="qcow2"
    )


def test_a_file_that_only_the_node_has(shell: Shell) -> None:
    run = shell(*MINIMUM, "--image", "/not/here.img", "--image-format", "raw", "--image-checksum", CHECKSUM)
    assert run.status == 0
    assert sent(shell).block_devices[0].image == Image(url="file:///not/here.img", checksum=CHECKSUM, disk_format="raw")


def test_a_kernel_without_disks(shell: Shell, tmp_path: Path) -> None:
    kernel, kernel_source = a_file(tmp_path, "vmlinuz", "kernel")
    ramdisk, ramdisk_source = a_file(tmp_path, "initrd", "ramdisk")
    run = shell(*MINIMUM, "--kernel", kernel, "--ramdisk", ramdisk, "--append", "console=ttyS0 quiet")
    assert run.status == 0
    assert sent(shell).direct_boot == DirectBoot(
        kernel=kernel_source, ramdisk=ramdisk_source, command_line="console=ttyS0 quiet"
    )
    assert sent(shell).block_devices == []


@pytest.mark.parametrize(("text", "mib"), [("512", 512), ("512M", 512), ("2G", 2048), ("2GiB", 2048), ("1t", 1048576)])
def test_memory_sizes(shell: Shell, text: str, mib: int) -> None:
    assert shell("boot", "web9", "--vcpus", "1", "--memory", text, *REMOTE).status == 0
    assert sent(shell).flavor.memory_mb == mib


def test_ids_are_made_where_none_are_given(shell: Shell) -> None:
    argv = (*MINIMUM, *REMOTE, "--port", "bridge=br-int", "--port", "vlan=3")
    instances = []
    for _ in range(2):
        assert shell(*argv).status == 0
        instances.append(sent(shell))
    uuids = {instance.uuid for instance in instances}
    ports = [port for instance in instances for port in instance.ports]
    assert len(uuids) == 2
    assert len({port.id for port in ports}) == len({port.mac_address for port in ports}) == 4


def test_the_same_command_with_the_same_request_id_asks_for_the_same(shell: Shell) -> None:
    argv = (*MINIMUM, *REMOTE, "--port", "bridge=br-int", "--request-id", REQUEST)
    assert (shell(*argv).status, shell(*argv).status) == (0, 0)
    first, second = shell.client.requests
    assert first == second


def test_a_whole_instance_from_a_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    path.write_text(json.dumps({"name": "filed", "flavor": {"vcpus": 4, "memory_mb": 64}}))
    assert shell("boot", "--file", str(path)).status == 0
    assert (sent(shell).name, sent(shell).flavor.vcpus) == ("filed", 4)


def test_waiting_for_a_boot_that_fails_says_how_to_clean_up(shell: Shell) -> None:
    shell.client.story = [
        an_operation(OperationState.FAILED, fault=Fault(type="InvalidImage", message="image: has a backing file"))
    ]
    run = shell(*MINIMUM, *REMOTE, "--uuid", WEB1, "--wait")
    assert run.status == 1
    assert "has a backing file" in run.stderr
    assert f"computectl --host node1 terminate {WEB1}" in run.advice


def unusable(directory: Path) -> list[tuple[list[str], str]]:
    """Arguments that cannot be meant, and a word that names the culprit."""
    image = ["--image", str(directory / "x.qcow2")]
    return [
        ([], "--image or --kernel"),
        (["--image", "/nowhere/x.qcow2"], "/nowhere/x.qcow2"),
        (["--image", "http://images/x.qcow2"], "--image-checksum"),
        (["--image", "http://images/x.img", "--image-checksum", CHECKSUM], "--image-format"),
        ([*image, "--image-checksum", "md5:0"], "instance.block_devices[0].image.checksum"),
        ([*image, "--append", "quiet"], "--kernel"),
        (["--kernel", str(directory / "x.qcow2"), "--disk-size", "3"], "--disk-size"),
        ([*image, "--hostname", "no_good"], "instance.hostname"),
        ([*image, "--port", "mac=nonsense"], "instance.ports[0].mac_address"),
        ([*image, "--file", str(directory / "x.qcow2")], "--file"),
    ]


@pytest.mark.parametrize("number", range(10))
def test_what_cannot_be_meant(shell: Shell, tmp_path: Path, number: int) -> None:
    (tmp_path / "x.qcow2").write_text("content")
    argv, culprit = unusable(tmp_path)[number]
    run = shell(*MINIMUM, *argv)
    assert run.status == 2
    message, advice = run.stderr.splitlines()
    assert culprit in message
    assert advice.startswith("Next: ")
    assert shell.client.requests == []


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("colour=red", "unknown key 'colour'"),
        ("vlan", "'vlan' is not KEY=VALUE"),
        ("vlan=1,vlan=2", "'vlan' is given twice"),
        ("vlan=x", "whole number"),
        ("ip=10.0.0.5", "10.0.0.5/24"),
        ("ip=10.0.0.555/24", "10.0.0.555"),
        ("gateway=10.0.0.1", "need an ip"),
        ("id=7", "not a uuid"),
    ],
)
def test_ports_that_cannot_be_meant(shell: Shell, port: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell(*MINIMUM, *REMOTE, "--port", port).status == 2
    error = capsys.readouterr().err
    assert "argument --port" in error
    assert reason in error


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "x"}', '{"name": "x", "colour": "red"}'])
def test_files_that_are_no_instance(shell: Shell, tmp_path: Path, content: Any) -> None:
    path, _ = a_file(tmp_path, "instance.json", content)
    run = shell("boot", "--file", path)
    assert run.status == 2
    assert len(run.stderr.splitlines()) == 2


@pytest.mark.parametrize("missing", ["--vcpus", "--memory", "NAME"])
def test_what_is_missing_is_named(shell: Shell, missing: str) -> None:
    given = {"NAME": ["web9"], "--vcpus": ["--vcpus", "1"], "--memory": ["--memory", "1G"]}
    del given[missing]
    run = shell("boot", *(word for words in given.values() for word in words), *REMOTE)
    assert run.status == 2
    assert run.stderr.startswith(f"computectl: {missing} is missing")
