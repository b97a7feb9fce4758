from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from compute_agent.errors import HostError, InvalidConfiguration
from compute_agent.virt.kvm.capabilities import find_capabilities as find_kvm_capabilities
from compute_agent.virt.qemu.capabilities import find_capabilities
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings


def refuse(settings: VirtSettings) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as refused:
        QemuHypervisor(settings, print)
    return refused.value


def test_describes_itself(hypervisor: QemuHypervisor) -> None:
    found = hypervisor.describe()
    assert found["name"] == "qemu"
    assert str(found["machine_type"]).startswith("pc-q35-")
    assert (found["accelerator"], found["accelerator_reason"]) == ("tcg", "configured")
    assert found["kvm"] == json.loads(json.dumps(asdict(find_kvm_capabilities())))


def test_too_long_run_dir_is_refused(settings: VirtSettings, directory: Path) -> None:
    refused = refuse(replace(settings, run_dir=directory / ("x" * 60)))
    assert refused.field == "virt.run_dir"
    assert "too long by" in refused.reason


def test_unusable_directory_is_refused(settings: VirtSettings, directory: Path) -> None:
    (directory / "file").touch()
    assert refuse(replace(settings, state_dir=directory / "file")).field == "virt.state_dir"


def test_missing_binary_is_refused(settings: VirtSettings) -> None:
    assert refuse(replace(settings, qemu_binary="qemu-system-none")).field == "virt.qemu_binary"


def test_broken_binary_is_a_host_error(settings: VirtSettings) -> None:
    with pytest.raises(HostError, match="false does not work"):
        find_capabilities(replace(settings, qemu_binary="false"))


def test_stray_names_are_not_instances(hypervisor: QemuHypervisor, settings: VirtSettings) -> None:
    (settings.state_dir / "lost+found").mkdir()
    assert hypervisor.inspect() == set()
    assert hypervisor.console_output("5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11", 100) == b""
