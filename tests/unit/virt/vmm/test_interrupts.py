"""What KVM is told of a machine's interrupts."""

from __future__ import annotations

import os

import pytest

from compute_agent.errors import InsufficientResources
from compute_agent.virt.vmm.interrupts import Interrupts
from tests.unit.virt.vmm.parts import KvmRecord

PIC, SECOND_PIC, IOAPIC = 0, 1, 2


def test_pins_are_wired_as_on_a_pc() -> None:
    kvm = KvmRecord()
    Interrupts(kvm)
    assert (0, PIC, 0) in kvm.pins
    assert (0, IOAPIC, 2) in kvm.pins
    assert (4, PIC, 4) in kvm.pins
    assert (4, IOAPIC, 4) in kvm.pins
    assert (9, SECOND_PIC, 1) in kvm.pins
    assert (23, IOAPIC, 23) in kvm.pins
    assert len(set(kvm.pins)) == len(kvm.pins) == 15 + 23
    assert not [pin for pin in kvm.pins if pin[0] == 2]


def test_a_line_is_told_once_per_change() -> None:
    kvm = KvmRecord()
    line = Interrupts(kvm).line(9)
    line.set(True)
    line.set(True)
    assert kvm.high == {9}
    line.set(False)
    line.set(False)
    assert not kvm.high


def test_a_message_waits_until_the_guest_wants_it() -> None:
    kvm = KvmRecord()
    message = Interrupts(kvm).message()
    assert not message.is_pending
    message.send()
    assert message.is_pending
    assert not kvm.connected
    message.deliver(0xFEE01000, 0x31)
    assert kvm.messages == {message.gsi: (0xFEE01000, 0x31)}
    assert kvm.connected == {message.fd: message.gsi}
    assert os.eventfd_read(message.fd) == 1  # as KVM does
    message.deliver(0xFEE02000, 0x32)
    assert kvm.messages == {message.gsi: (0xFEE02000, 0x32)}
    message.hold()
    message.hold()
    assert not kvm.connected
    message.send()
    message.forget_pending()
    assert not message.is_pending


def test_numbers_are_used_again() -> None:
    kvm = KvmRecord()
    interrupts = Interrupts(kvm)
    message = interrupts.message()
    gsi = message.gsi
    message.deliver(0xFEE00000, 1)
    message.close()
    message.close()
    assert not kvm.messages
    assert not kvm.connected
    assert interrupts.message().gsi == gsi


def test_what_kvm_cannot_route_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute_agent.virt.vmm.interrupts._MESSAGES", range(24, 25))
    interrupts = Interrupts(KvmRecord())
    interrupts.message()
    with pytest.raises(InsufficientResources, match="no interrupt left"):
        interrupts.message()
