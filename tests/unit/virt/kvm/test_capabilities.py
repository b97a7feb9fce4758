"""Hosts that are directories: what their kernel shows of a processor and its modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from compute_agent.virt.kvm.capabilities import KvmCapabilities, find_capabilities
from compute_agent.virt.kvm.extensions import EXTENSIONS

Look = Callable[..., KvmCapabilities]

AMD = "AuthenticAMD"
INTEL = "GenuineIntel"


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """What is found on a host without the device, or with another in its place."""

    def look_at(vendor: str, flags: str, *, device: str = "none", **modules: dict[str, str]) -> KvmCapabilities:
        cpu = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: A Processor @ 2.0GHz\nflags\t\t: fpu {flags}\n\n"
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(cpu + cpu.replace("A Processor", "Another"))
        for module, parameters in modules.items():
            directory = tmp_path / "sys/module" / module / "parameters"
            directory.mkdir(parents=True)
            for name, value in parameters.items():
                (directory / name).write_text(f"{value}\n")
        return find_capabilities(tmp_path / device, tmp_path)

    return look_at


def test_amd(look: Look) -> None:
    found = look(AMD, "svm npt", kvm={}, kvm_amd={"npt": "Y", "nested": "1"})
    assert (found.module, found.cpu_vendor, found.cpu_model) == ("kvm_amd", "AMD", "A Processor @ 2.0GHz")
    assert (found.nested_paging, found.nested_guests, found.missing) == ("NPT", True, {})


def test_intel_with_everything_turned_off(look: Look) -> None:
    found = look(INTEL, "vmx ept", kvm={}, kvm_intel={"ept": "N", "nested": "N"})
    assert (found.module, found.cpu_vendor, found.nested_paging, found.nested_guests) == (
        "kvm_intel", "Intel", None, False,
    )  # fmt: skip
    assert found.missing == {
        "nested_paging": "module kvm_intel is loaded with ept=0",
        "nested_guests": "module kvm_intel is loaded with nested=0",
    }


def test_a_processor_without_nested_paging(look: Look) -> None:
    found = look(AMD, "svm", kvm_amd={"npt": "0", "nested": "1"})
    assert found.missing == {"nested_paging": "the processor shows no npt flag"}


def test_a_module_that_needs_no_help_of_the_processor(look: Look) -> None:
    found = look(AMD, "sse2", kvm={}, kvm_soft={"stats": "1"})
    assert (found.module, found.nested_paging, found.nested_guests) == ("kvm_soft", None, None)
    assert found.missing["nested_paging"] == "module kvm_soft has none"
    assert found.missing["hardware_virtualization"].startswith("the processor shows neither svm nor vmx")


def test_why_there_is_no_device(look: Look) -> None:
    found = look(INTEL, "vmx ept")
    assert str(found.problem).endswith("none: module kvm_intel is not loaded")
    assert found.remedy == "modprobe kvm_intel"
    assert (found.module, found.api_version, found.extensions) == (None, None, {})


def test_no_device_and_no_processor_for_it(look: Look) -> None:
    found = look("HygonGenuine", "sse2")
    assert found.cpu_vendor == "HygonGenuine"
    assert str(found.problem).endswith("none: the processor shows neither svm nor vmx")
    assert "firmware" in str(found.remedy)


def test_no_device_in_a_container(look: Look) -> None:
    found = look(AMD, "svm npt", kvm_amd={"npt": "1", "nested": "1"})
    assert str(found.problem).endswith("none, though kvm_amd is loaded")


def test_something_else_in_the_place_of_the_device(look: Look, tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    found = look(AMD, "svm npt", device="kvm", kvm_amd={"npt": "1", "nested": "1"})
    assert found.problem == "KVM_GET_API_VERSION: Inappropriate ioctl for device"
    assert found.module == "kvm_amd"


def test_it_is_plain_data(look: Look) -> None:
    found = asdict(look(AMD, "svm", kvm_amd={"npt": "0"}))
    assert json.loads(json.dumps(found)) == found


def test_every_extension_is_named_once() -> None:
    assert len({one.name for one in EXTENSIONS}) == len({one.number for one in EXTENSIONS}) == len(EXTENSIONS)
