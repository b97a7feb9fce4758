"""KVM through the binding, in a host whose KVM is real: what it is, and that it runs guests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compute_agent
from laboratory.host import VirtualHost

_PROJECT = Path(compute_agent.__file__).parents[1]

_PROVE = """
import dataclasses, json
from compute_agent.virt.kvm.proof import prove
print(json.dumps(dataclasses.asdict(prove(seconds=30))))
"""

_FIND = """
import dataclasses, json
from compute_agent.virt.kvm.capabilities import find_capabilities
print(json.dumps(dataclasses.asdict(find_capabilities())))
"""


@pytest.fixture
def without_module(host: VirtualHost) -> Iterator[VirtualHost]:
    """A host where nobody has loaded KVM's module."""
    host.run("modprobe", "--remove", "kvm_amd")
    yield host
    host.run("modprobe", "kvm_amd")


def run_python(host: VirtualHost, program: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(host.run(sys.executable, "-c", program))
    return answer


def test_what_a_host_says_about_its_kvm(host: VirtualHost) -> None:
    hypervisor: Any = host.client.get_host()["hypervisor"]
    kvm = hypervisor["kvm"]
    assert (kvm["problem"], kvm["api_version"], kvm["module"]) == (None, 12, "kvm_amd")
    assert (kvm["cpu_vendor"], kvm["nested_paging"], kvm["nested_guests"]) == ("AMD", "NPT", True)
    assert kvm["recommended_vcpus"] == int(host.run("nproc"))
    assert {"irqchip", "irqfd", "ioeventfd"} <= set(kvm["extensions"]["interrupts"])
    assert "binary_stats_fd" in kvm["extensions"]["observation"]
    assert "hardware_virtualization" not in kvm["missing"]


def test_a_64_bit_guest_runs(host: VirtualHost) -> None:
    proof = run_python(host, _PROVE)
    print(f"an exit takes {proof['exit_nanoseconds'] / 1000:.1f} us, a turn {proof['turn_nanoseconds']:.1f} ns")
    assert proof["exits"] == 3000
    assert proof["exit_nanoseconds"] > 0
    assert proof["turn_nanoseconds"] < 500, "instructions are emulated"


def test_small_guests_run_as_on_any_kvm(host: VirtualHost) -> None:
    tests = ("tests/unit/virt/kvm", "tests/unit/virt/vmm/test_serial.py")
    python = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert " passed" in host.run("env", "-C", str(_PROJECT), *python, *tests, seconds=200)


def test_the_reason_and_the_remedy_where_the_module_is_not_loaded(without_module: VirtualHost) -> None:
    found = run_python(without_module, _FIND)
    assert found["problem"] == "there is no /dev/kvm: module kvm_amd is not loaded"
    without_module.run(*found["remedy"].split())
    assert run_python(without_module, _FIND)["problem"] is None
