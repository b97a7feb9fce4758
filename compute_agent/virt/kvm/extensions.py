"""The extensions of KVM that matter here, with what is lost where one is not there."""

from __future__ import annotations

from typing import NamedTuple

NR_VCPUS = 9
"""Answers how many vCPUs a guest should have at most."""
NR_MEMSLOTS = 10
"""How many pieces of memory a guest can have."""
TSC_DEADLINE_TIMER = 72
"""Answers whether a local APIC's timer can be set to a value of the time stamp counter."""
MAX_VCPUS = 66
"""How many vCPUs a guest can have."""


class Extension(NamedTuple):
    """One of the kernel's KVM_CAP_…"""

    name: str
    """The kernel's, small letters, without ``KVM_CAP_``."""
    number: int
    purpose: str
    without: str
    """What is lost without it."""


_MEMORY = "memory"
_INTERRUPTS = "interrupts"
_TIME = "time"
_MIGRATION = "migration"
_FEATURES = "features"
_OBSERVATION = "observation"

EXTENSIONS = (
    Extension("user_memory", 3, _MEMORY, "a guest has no memory; no log of dirty pages"),
    Extension("sync_mmu", 16, _MEMORY, "a guest's memory can be neither swapped, shared, ballooned nor fetched later"),
    Extension("readonly_mem", 81, _MEMORY, "no UEFI: its firmware is memory that only the host changes"),
    Extension("irqchip", 0, _INTERRUPTS, "each interrupt goes through the guest's process"),
    Extension("split_irqchip", 121, _INTERRUPTS, "no emulated IOMMU with interrupt remapping"),
    Extension("irq_routing", 25, _INTERRUPTS, "no MSI from the kernel: vhost and VFIO go through the guest's process"),
    Extension("signal_msi", 77, _INTERRUPTS, "each MSI needs a route set up beforehand"),
    Extension("irqfd", 32, _INTERRUPTS, "vhost and VFIO cannot interrupt the guest by themselves"),
    Extension("ioeventfd", 36, _INTERRUPTS, "the guest cannot wake vhost without going through its process"),
    Extension("immediate_exit", 136, _INTERRUPTS, "a vCPU cannot be stopped without a race"),
    Extension("tsc_deadline_timer", TSC_DEADLINE_TIMER, _TIME, "guests set their timer in a slower way"),
    Extension("adjust_clock", 39, _TIME, "the clock of a paused, saved or migrated guest jumps"),
    Extension("kvmclock_ctrl", 76, _TIME, "a guest that was paused reports soft lock-ups"),
    Extension("tsc_control", 60, _TIME, "the guest's TSC runs at the host's rate, which differs after a migration"),
    Extension("vcpu_events", 41, _MIGRATION, "pending exceptions and interrupts are lost"),
    Extension("xsave2", 208, _MIGRATION, "large vector registers are lost"),
    Extension("manual_dirty_log_protect2", 168, _MIGRATION, "a large guest stalls when its dirty pages are fetched"),
    Extension("dirty_log_ring", 192, _MIGRATION, "dirty pages are found by bitmaps over all memory only"),
    Extension("nested_state", 157, _MIGRATION, "a guest that runs guests of its own cannot move"),
    Extension("x86_smm", 117, _FEATURES, "no secure boot: its variables are not safe from the guest's kernel"),
    Extension("sys_hyperv_cpuid", 191, _FEATURES, "Windows guests are slower: no Hyper-V interfaces to show them"),
    Extension("async_pf_int", 183, _FEATURES, "a guest's CPU waits for each page that the host fetches"),
    Extension("halt_poll", 182, _FEATURES, "how long an idle vCPU polls cannot be set for a guest"),
    Extension("binary_stats_fd", 203, _OBSERVATION, "no statistics of exits and pages for each guest"),
)
"""Numbers are from <linux/kvm.h>."""
