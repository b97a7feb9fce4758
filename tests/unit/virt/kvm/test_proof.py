from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.proof import prove
from compute_agent.virt.kvm.trial import computed, program


@pytest.mark.parametrize("turns", [1, 2, 1000])
def test_the_result_is_known_without_the_turns(turns: int) -> None:
    value = 1
    for _ in range(turns):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
    assert computed(turns) == value


def test_the_jumps_of_the_program_meet_their_targets() -> None:
    code = program()
    for jump, target in ((0x0A, 0x00), (0x2C, 0x27)):
        assert code[jump] == 0x75
        assert jump + 2 + code[jump + 1] - 256 == target
    assert code[-1] == 0xF4


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KvmError, match="none: No such file or directory"):
        prove(tmp_path / "none", seconds=30)


def test_a_device_that_is_not_kvm() -> None:
    with pytest.raises(KvmError, match="KVM_GET_VCPU_MMAP_SIZE: Inappropriate ioctl for device"):
        prove(Path("/dev/null"), seconds=30)


def test_the_deadline_holds_and_nothing_is_left(tmp_path: Path) -> None:
    """No Python starts in so short a time."""
    with pytest.raises(KvmError, match=r"no answer in 0\.001 s"):
        prove(tmp_path / "none", seconds=0.001)
    assert not [entry for entry in Path("/proc").glob("[0-9]*") if os.fsencode(tmp_path) in command_line(entry)]


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
