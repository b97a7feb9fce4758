"""What owners and controllers write that becomes QEMU's arguments, a machine's plan, or a row of the switch's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec

from compute_agent.errors import InvalidMessage
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import BootFiles, Disk, FileSource, Nic
from compute_agent.instance.model import Instance
from compute_agent.network.ovs.tap import tap_name
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.block_nodes import local_files
from compute_agent.virt.qemu.command_line import GuestDescriptors, command_line
from compute_agent.virt.qemu.design import design_machine
from compute_agent.virt.vmm.plan import KernelPlan, Plan, decode_plan, encode_plan
from tests.fuzz.generation import convert
from tests.fuzz.mutation import TEXTS
from tests.fuzz.target import Case, Check, Target

_OWNERS = ("-name", "-append")
"""Options whose values owners may choose."""
_JSON = ("-blockdev", "-device")
_LONGEST_INTERFACE = 15
"""Characters; the kernel's limit."""


def _evil(random: Random, longest: int) -> str:
    """One line, as `compute_agent.instance.wire` allows it."""
    text = "".join(random.choice((*TEXTS, ",", "=", "-device x", '"', "\\")) for _ in range(random.randint(1, 4)))
    return re.sub("[\x00-\x1f\x7f\ud800-\udfff]", "", text)[:longest] or "x"


@contextmanager
def _open() -> Iterator[Check]:
    def check(case: Case) -> None:
        instance = with_named_devices(convert(case.random, Instance))
        name, arguments = _evil(case.random, 255), _evil(case.random, 2048)
        case.show((instance, name, arguments))
        harmless = _arguments(instance, "x", "x")
        if harmless is not None:
            _require_only(harmless, _arguments(instance, name, arguments) or [], name, arguments)
        _require_plan(instance, name, arguments)
        for port in instance.ports:
            _require_interface(tap_name(port.id))

    yield check


def _arguments(instance: Instance, name: str, command_line_of_kernel: str) -> list[str] | None:
    """None: there cannot be such a machine."""
    try:
        machine = design_machine(instance, "pc-q35-7.2", "tcg")
    except InvalidMessage:
        return None
    disks = [
        Disk(
            name=str(one.device_name),
            source=FileSource(path=Path("/x"), format="qcow2"),
            serial=str(one.volume_id or "")[:20],
            **{key: getattr(one, key) for key in ("boot_index", "discard", "detect_zeroes", "queues", "qos")},
            bus=one.disk_bus,
        )
        for one in instance.block_devices
    ]
    nics = [
        Nic(name=str(one.device_name), mac_address=one.mac_address, mtu=one.mtu, tap_fds=(9,)) for one in instance.ports
    ]
    nodes = [node for disk in disks for node, _, _ in local_files(disk, disk.name)]
    request = StartRequest(
        instance=msgspec.structs.replace(instance, name=name),
        machine=machine,
        disks=disks,
        nics=nics,
        boot=BootFiles(kernel=Path("/k"), ramdisk=None, command_line=command_line_of_kernel),
    )
    fds = GuestDescriptors(
        **{"monitor": 10, "console": 11, "guest_agent": 12, "console_log": 13, "kernel": 14},
        files={node: 30 + number for number, node in enumerate(nodes)},
        connections={},
        passphrases={},
    )
    return command_line("qemu", request, fds, 1)


def _require_only(harmless: list[str], made: list[str], name: str, arguments: str) -> None:
    """The owner's words are where they belong, and nothing else is different."""
    assert len(made) == len(harmless)
    for (option, value), (_, other) in zip(pairwise(made), pairwise(harmless), strict=True):
        assert value == other or option in _OWNERS, f"{option} {value}"
        if option in _JSON:
            assert isinstance(json.loads(value), dict), value
    assert made[made.index("-append") + 1] == arguments
    assert _pairs(made[made.index("-name") + 1]) == {"guest": name, "debug-threads": "on"}


def _pairs(value: str) -> dict[str, str]:
    """As QEMU takes ``key=value,...`` apart: two commas are one."""
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    return {key: text for key, _, text in (part.partition("=") for part in parts)}


def _require_plan(instance: Instance, name: str, arguments: str) -> None:
    plan = Plan(
        instance_uuid=instance.uuid,
        name=name,
        **{"memory": 1, "vcpus": 1, "monitor": 3, "console": 4, "console_log": 5},
        **{"disks": [], "nics": []},
        kernel=KernelPlan(image=6, command_line=arguments),
    )
    assert decode_plan(encode_plan(plan)) == plan
    assert "\0" not in encode_plan(plan)


def _require_interface(name: str) -> None:
    assert 0 < len(name) <= _LONGEST_INTERFACE
    assert name.isascii() and name.isprintable() and not set(name) & set("/ :%"), name


TARGET = Target(name="command-line", open=_open, weight=1.5)
