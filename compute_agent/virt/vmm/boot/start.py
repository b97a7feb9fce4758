"""How a machine begins, each time that it is reset: with a kernel in memory, or with its firmware.

Sources, for the first processor's state: Linux's Documentation/arch/x86/boot.rst, 64-bit boot protocol; Xen's
docs/misc/pvh.pandoc.
"""

from __future__ import annotations

import struct
from typing import Protocol

from compute_agent.errors import InvalidImage
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.kvm.long_mode import enter_long_mode, enter_protected_mode
from compute_agent.virt.kvm.vcpu import Vcpu
from compute_agent.virt.kvm.vm import Vm
from compute_agent.virt.vmm.acpi.tables import write_tables
from compute_agent.virt.vmm.boot.contents import examine_kernel, load_contents
from compute_agent.virt.vmm.boot.elf import ElfKernel
from compute_agent.virt.vmm.boot.layout import ACPI, BOOT_PARAMS, DESCRIPTORS, PAGE_TABLES, START_INFO
from compute_agent.virt.vmm.boot.linux import write_boot_params
from compute_agent.virt.vmm.boot.pvh import write_start_info
from compute_agent.virt.vmm.chipset import Chipset
from compute_agent.virt.vmm.firmware import Firmware, firmware_files
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.plan import KernelPlan, Plan

_CODE, _DATA = 0x10, 0x18
"""Selectors that the protocol asks for."""
_FLAT_CODE, _FLAT_DATA = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
_DESCRIPTORS = struct.pack("<4Q", 0, 0, _FLAT_CODE, _FLAT_DATA)
_FLAGS = 2


class Start(Protocol):
    """What is done before the first instruction."""

    def __call__(self, ram: GuestRam, first: Vcpu) -> None:
        """`first` is as after power-on."""


def prepare_start(plan: Plan, vm: Vm, ram: GuestRam, chipset: Chipset) -> Start:
    """What the plan wants. Firmware is put where the guest finds it, and can ask for its files.

    :raises InvalidImage: of ``kernel`` or ``firmware``: it cannot be started.
    """
    if plan.kernel is not None:
        return KernelStart(plan.kernel, plan.vcpus)
    if plan.firmware is None:
        raise InvalidImage("firmware", None, "there is neither a kernel nor firmware to start")
    firmware = Firmware(plan.firmware)
    vm.set_memory(len(ram.regions), firmware.address, firmware.host_address, firmware.size, read_only=True)
    bootable = sorted((disk.boot_index, disk.slot) for disk in plan.disks if disk.boot_index is not None)
    files = firmware_files(ram, plan.vcpus, [slot for _, slot in bootable])
    chipset.add_firmware_files(ram, plan.vcpus, files)
    return FirmwareStart(firmware)


class FirmwareStart:
    """Processors begin in the firmware by themselves."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware

    def __call__(self, ram: GuestRam, first: Vcpu) -> None:
        self._firmware.copy_low(ram)


class KernelStart:
    """:raises InvalidImage: of ``kernel``: it is none that can be started so."""

    def __init__(self, plan: KernelPlan, processors: int) -> None:
        self._plan = plan
        self._processors = processors
        self._kernel = examine_kernel(plan.image)

    def __call__(self, ram: GuestRam, first: Vcpu) -> None:
        """:raises InvalidImage, InsufficientResources: as `load_contents`."""
        ramdisk = load_contents(ram, self._kernel, self._plan.ramdisk, self._plan.command_line)
        write_tables(ram, ACPI.start, self._processors)
        special = first.special_registers()
        if isinstance(self._kernel, ElfKernel) and self._kernel.has_pvh_entry:
            write_start_info(ram, ramdisk)
            enter_protected_mode(special)
            argument = {"rbx": START_INFO}
        else:
            write_boot_params(ram, self._kernel.header, ramdisk)
            _enter_linux(ram, special)
            argument = {"rsi": BOOT_PARAMS}
        first.set_special_registers(special)
        registers = {"rip": self._kernel.entry, "rflags": _FLAGS, **argument}
        first.set_registers(ffi.new("struct kvm_regs *", registers))


def _enter_linux(ram: GuestRam, special: CData) -> None:
    """The 64-bit protocol asks for segments that are in a table."""
    ram.write(DESCRIPTORS, _DESCRIPTORS)
    enter_long_mode(special, PAGE_TABLES)
    special.gdt.base, special.gdt.limit = DESCRIPTORS, len(_DESCRIPTORS) - 1
    special.cs.selector = _CODE
    for name in ("ds", "es", "fs", "gs", "ss"):
        getattr(special, name).selector = _DATA
