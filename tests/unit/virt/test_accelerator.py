from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.virt.qemu import accelerator
from compute_agent.virt.qemu.accelerator import choose_accelerator, probe
from compute_agent.virt.settings import VirtSettings


def test_the_probe_succeeds_where_a_guest_can_run() -> None:
    assert probe("qemu-system-x86_64", "tcg", "max") is None


def test_the_probe_says_what_qemu_said() -> None:
    assert probe("qemu-system-x86_64", "tcg", "nosuchcpu") == (
        "QEMU ended with exit status 1: qemu-system-x86_64: unable to find CPU model 'nosuchcpu'"
    )


def test_the_probe_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "qemu"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o700)
    monkeypatch.setattr(accelerator, "PROBE_DEADLINE", 0.1)
    assert "did not end in 0.1 s" in str(probe(str(hanging), "kvm", "host"))


def test_a_configured_accelerator_is_taken_as_it_is(settings: VirtSettings) -> None:
    chosen = choose_accelerator(replace(settings, accelerator="kvm"))
    assert (chosen.name, chosen.reason) == ("kvm", "configured")


def test_auto_falls_back_to_tcg_with_the_reason(settings: VirtSettings) -> None:
    """With a QEMU that fails at once, no KVM works, whatever this host has."""
    chosen = choose_accelerator(replace(settings, accelerator="auto", qemu_binary="false"))
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert chosen.name == "tcg"
    assert ("ended with exit status 1" if usable else "/dev/kvm") in chosen.reason
