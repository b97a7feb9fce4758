"""Golden files: an instance (JSON), and the plan that its machine's process gets.

``REGENERATE_GOLDEN=1 pytest tests/unit/virt/vmm/test_launch.py`` writes them anew; read the difference.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compute_agent.instance.devices import BootFiles, Disk, Nic, VhostUserSource
from compute_agent.instance.model import Instance
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.vmm import launch
from compute_agent.virt.vmm.design import design_machine
from compute_agent.virt.vmm.limits import limits_of
from compute_agent.virt.vmm.plan import Plan, decode_plan, encode_plan

GOLDEN = Path(__file__).parents[3] / "golden" / "vmm"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
FILES = {"monitor.sock": 10, "console.sock": 11, "kernel": 14, "ramdisk": 15, "memory.state": 16, "bios-256k.bin": 17}
"""Numbers of descriptors."""
CONSOLE_LOG = 13


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """What a golden file's JSON says: the instance, and what storage and network made of it."""

    instance: Instance
    disks: list[dict[str, Any]] = []
    nics: list[Nic] = []
    boot: BootFiles | None = None
    saved_state: Path | None = None


def a_request(name: str) -> StartRequest:
    data = (GOLDEN / f"{name}.json").read_bytes()
    case = msgspec.json.decode(data, type=Case, dec_hook=lambda kind, value: kind(value))
    numbers = count(30)
    return StartRequest(
        instance=case.instance,
        machine=design_machine(case.instance),
        disks=[Disk(**disk, source=VhostUserSource(fd=next(numbers))) for disk in case.disks],
        nics=case.nics,
        boot=case.boot,
        saved_state=case.saved_state,
    )


@pytest.fixture
def make_plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    for opener in ("listen", "open_file"):
        monkeypatch.setattr(launch, opener, lambda _, path: FILES[path.name])

    def make(name: str) -> Plan:
        paths, ring = GuestPaths(Path("/state"), Path("/run")), ConsoleRing(CONSOLE_LOG, -1)
        with ExitStack() as opened:
            return launch.make_plan(opened, a_request(name), paths, ring, Path("/usr/share/bios-256k.bin"))

    return make


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, make_plan: Any) -> None:
    plan = make_plan(name)
    golden = GOLDEN / f"{name}.plan"
    if os.environ.get("REGENERATE_GOLDEN"):
        golden.write_text(json.dumps(json.loads(encode_plan(plan)), indent=2) + "\n")
    assert json.loads(encode_plan(plan)) == json.loads(golden.read_text())
    assert encode_plan(decode_plan(encode_plan(plan))) == encode_plan(plan)


@pytest.mark.parametrize(
    ("name", "descriptors"),
    [
        ("image_boot", {10, 11, 13, 17, 30, 31, 32, 40, 41, 42, 43, 44, 45}),
        ("direct_boot", {10, 11, 13, 14, 15, 30}),
        ("saved_state", {10, 11, 13, 14, 16}),
    ],
)
def test_process_inherits_what_its_plan_names(name: str, descriptors: set[int], make_plan: Any) -> None:
    assert set(launch._descriptors(make_plan(name))) == descriptors


def test_each_queue_pair_that_may_come_has_room_for_its_worker() -> None:
    limits = dict(limits_of(a_request("image_boot")))
    assert limits["pids.max"] == str(4 + 64 + 16)
    assert limits["memory.max"] == str((4096 + 64) * 1024**2)
