from __future__ import annotations

from typing import Any

import pytest

from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.exits import describe_exit


@pytest.mark.parametrize(
    ("shared", "told"),
    [
        ({"exit_reason": 5}, "KVM_EXIT_HLT"),
        ({"exit_reason": 2, "io": {"port": 0x3F8}}, "KVM_EXIT_IO: port 0x3f8"),
        ({"exit_reason": 6, "mmio": {"phys_addr": 0xFEE00000}}, "KVM_EXIT_MMIO: address 0xfee00000"),
        ({"exit_reason": 8}, "KVM_EXIT_SHUTDOWN: three faults in a row"),
        (
            {"exit_reason": 9, "fail_entry": {"hardware_entry_failure_reason": 0x80000021}},
            "KVM_EXIT_FAIL_ENTRY: the processor says 0x80000021",
        ),
        ({"exit_reason": 0, "hw": {"hardware_exit_reason": 0x7F}}, "KVM_EXIT_UNKNOWN: the processor says 0x7f"),
        (
            {"exit_reason": 17, "internal": {"suberror": 3}},
            "KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_DELIVERY_EV",
        ),
        (
            {"exit_reason": 17, "internal": {"suberror": 1, "ndata": 0}},
            "KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_EMULATION",
        ),
        (
            {
                "exit_reason": 17,
                "emulation_failure": {
                    "suberror": 1, "ndata": 3, "flags": 1, "insn_size": 3, "insn_bytes": [0x0F, 0x29, 0x07],
                },
            },
            "KVM_EXIT_INTERNAL_ERROR: KVM_INTERNAL_ERROR_EMULATION of 0f 29 07",
        ),
        ({"exit_reason": 17, "internal": {"suberror": 9}}, "KVM_EXIT_INTERNAL_ERROR: InternalError 9"),
        ({"exit_reason": 99}, "ExitReason 99"),
    ],
)  # fmt: skip
def test_an_exit_for_a_person(shared: dict[str, Any], told: str) -> None:
    run = ffi.new("struct kvm_run *")
    for name, value in shared.items():
        setattr(run, name, value)
    assert describe_exit(run) == told
