"""What CPUs a host can give: what QEMU answers, read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from compute_agent.errors import HostError
from compute_agent.virt.qemu import capabilities
from compute_agent.virt.qemu.accelerator import Accelerator
from compute_agent.virt.qemu.cpu import CpuSupport, find_cpu_support
from compute_agent.virt.settings import VirtSettings

DEFINITIONS = [
    {"name": "max", "unavailable-features": [], "migration-safe": False},
    {"name": "base", "unavailable-features": [], "migration-safe": True},
    {"name": "EPYC-v1", "unavailable-features": [], "migration-safe": True},
    {"name": "EPYC", "unavailable-features": [], "migration-safe": True, "alias-of": "EPYC-v1"},
    {"name": "EPYC-v3", "unavailable-features": ["xsaves"], "migration-safe": True},
]
FEATURES = {"host": ["aes", "avx", "sse2"], "EPYC-v1": ["avx", "sse2"]}


class Qemu:
    """In place of the program."""

    def __init__(self) -> None:
        self.accelerators: list[str] = []
        self.breaks = False

    def run(
        self, command: list[str], *, input: bytes, stdout: IO[bytes], **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        self.accelerators.append(command[-1])
        answers = [self._answer(json.loads(line)) for line in input.splitlines()]
        lines = [json.dumps(answer) for answer in ({"QMP": {}}, *answers)]
        stdout.write("\n".join(lines).encode())
        return subprocess.CompletedProcess(command, 0)

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        if call["execute"] == "query-cpu-definitions":
            return {"error": {}} if self.breaks else {"return": DEFINITIONS}
        if call["execute"] != "query-cpu-model-expansion":
            return {"return": {}}
        has = FEATURES[call["arguments"]["model"]["name"]]
        props = {name: name in has for name in ("aes", "avx", "avx512f", "sse2")} | {"level": 13}
        return {"return": {"model": {"name": "base", "props": props}}}


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Qemu:
    qemu = Qemu()
    monkeypatch.setattr(capabilities.subprocess, "run", qemu.run)
    return qemu


def find(tmp_path: Path) -> CpuSupport:
    return find_cpu_support(VirtSettings(state_dir=tmp_path, run_dir=tmp_path), Accelerator("kvm", "it works"))


def test_models_of_which_all_is_here_and_stays_as_it_is(tmp_path: Path, qemu: Qemu) -> None:
    view = find(tmp_path).view
    assert (view.features, view.models) == (["aes", "avx", "sse2"], {"EPYC-v1": ["avx", "sse2"]})
    assert (view.accelerator, set(qemu.accelerators)) == ("kvm", {"kvm"})


def test_what_a_guest_sees(tmp_path: Path, qemu: Qemu) -> None:
    support = find(tmp_path)
    assert support.features_of("EPYC-v1,+aes,enforce") == {"aes", "avx", "sse2"}
    assert support.features_of("host") == {"aes", "avx", "sse2"}


def test_a_qemu_that_does_not_answer_all(tmp_path: Path, qemu: Qemu) -> None:
    qemu.breaks = True
    with pytest.raises(HostError, match="query-cpu-definitions"):
        find(tmp_path)
