"""The extension module `_binding`: what of Linux's <linux/kvm.h> and of the C in ``native`` Python calls. For setup.py.

Where ``...`` stands, the compiler fills in what the kernel's header says, and refuses what disagrees with it.
"""

from __future__ import annotations

from pathlib import Path

import cffi

_NATIVE = Path("compute_agent/virt/kvm/native")
"""From the project's root, as setuptools wants it."""

_CONSTANTS = (
    "KVM_GET_API_VERSION",
    "KVM_CREATE_VM",
    "KVM_GET_MSR_INDEX_LIST",
    "KVM_CHECK_EXTENSION",
    "KVM_GET_VCPU_MMAP_SIZE",
    "KVM_GET_SUPPORTED_CPUID",
    "KVM_CREATE_VCPU",
    "KVM_GET_DIRTY_LOG",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_SET_TSS_ADDR",
    "KVM_SET_IDENTITY_MAP_ADDR",
    "KVM_CREATE_IRQCHIP",
    "KVM_IRQ_LINE",
    "KVM_GET_IRQCHIP",
    "KVM_SET_IRQCHIP",
    "KVM_SET_GSI_ROUTING",
    "KVM_IRQFD",
    "KVM_CREATE_PIT2",
    "KVM_IOEVENTFD",
    "KVM_SET_CLOCK",
    "KVM_GET_CLOCK",
    "KVM_RUN",
    "KVM_GET_REGS",
    "KVM_SET_REGS",
    "KVM_GET_SREGS",
    "KVM_SET_SREGS",
    "KVM_GET_MSRS",
    "KVM_SET_MSRS",
    "KVM_GET_LAPIC",
    "KVM_SET_LAPIC",
    "KVM_SET_CPUID2",
    "KVM_GET_MP_STATE",
    "KVM_SET_MP_STATE",
    "KVM_GET_VCPU_EVENTS",
    "KVM_SET_VCPU_EVENTS",
    "KVM_GET_PIT2",
    "KVM_SET_PIT2",
    "KVM_GET_DEBUGREGS",
    "KVM_SET_DEBUGREGS",
    "KVM_GET_TSC_KHZ",
    "KVM_GET_XSAVE",
    "KVM_SET_XSAVE",
    "KVM_GET_XCRS",
    "KVM_SET_XCRS",
    "KVM_KVMCLOCK_CTRL",
    "KVM_GET_STATS_FD",
    "KVM_GET_XSAVE2",
    "KVM_CAP_XSAVE2",
    "KVM_MEM_LOG_DIRTY_PAGES",
    "KVM_MEM_READONLY",
    "KVM_IRQFD_FLAG_DEASSIGN",
    "KVM_IOEVENTFD_FLAG_DEASSIGN",
    "KVM_IRQ_ROUTING_IRQCHIP",
    "KVM_IRQ_ROUTING_MSI",
    "KVM_PIT_SPEAKER_DUMMY",
    "KVM_IRQCHIP_PIC_MASTER",
    "KVM_IRQCHIP_PIC_SLAVE",
    "KVM_IRQCHIP_IOAPIC",
    "QUEUE_SIZE",
    "PAGE_BYTES",
    "VCPU_REASONS",
)

_KERNEL = """
int ioctl(int fd, unsigned long request, void *argument);

struct kvm_userspace_memory_region {
    uint32_t slot, flags;
    uint64_t guest_phys_addr, memory_size, userspace_addr;
    ...;
};
struct kvm_dirty_log { uint32_t slot; void *dirty_bitmap; ...; };

struct kvm_irq_level { uint32_t irq, level; ...; };
struct kvm_irq_routing_irqchip { uint32_t irqchip, pin; };
struct kvm_irq_routing_msi { uint32_t address_lo, address_hi, data, pad; };
struct kvm_irq_routing_entry {
    uint32_t gsi, type, flags, pad;
    union {
        struct kvm_irq_routing_irqchip irqchip;
        struct kvm_irq_routing_msi msi;
        struct { uint64_t ind_addr, summary_addr, ind_offset; uint32_t summary_offset, adapter_id; } adapter;
        uint32_t pad[8];
    } u;
};
struct kvm_irq_routing { uint32_t nr, flags; struct kvm_irq_routing_entry entries[]; };
struct kvm_irqfd { uint32_t fd, gsi, flags; ...; };
struct kvm_ioeventfd { uint64_t datamatch, addr; uint32_t len; int32_t fd; uint32_t flags; ...; };
struct kvm_irqchip { uint32_t chip_id; ...; };
struct kvm_pit_config { uint32_t flags; ...; };
struct kvm_pit_state2 { ...; };
struct kvm_clock_data { uint64_t clock; uint32_t flags; ...; };

struct kvm_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
    ...;
};
struct kvm_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable;
    ...;
};
struct kvm_dtable { uint64_t base; uint16_t limit; ...; };
struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    unsigned long long interrupt_bitmap[4];
    ...;
};
struct kvm_cpuid_entry2 { uint32_t function, index, flags, eax, ebx, ecx, edx; ...; };
struct kvm_cpuid2 { uint32_t nent; struct kvm_cpuid_entry2 entries[]; ...; };
struct kvm_msr_entry { uint32_t index; uint64_t data; ...; };
struct kvm_msrs { uint32_t nmsrs; struct kvm_msr_entry entries[]; ...; };
struct kvm_msr_list { uint32_t nmsrs; uint32_t indices[]; ...; };
struct kvm_xsave { ...; };
struct kvm_xcrs { ...; };
struct kvm_lapic_state { ...; };
struct kvm_debugregs { ...; };
struct kvm_vcpu_events { ...; };
struct kvm_mp_state { uint32_t mp_state; ...; };

struct kvm_run {
    uint8_t request_interrupt_window, immediate_exit, padding1[6];
    uint32_t exit_reason;
    uint8_t ready_for_interrupt_injection, if_flag;
    uint16_t flags;
    uint64_t cr8, apic_base;
    union {
        struct { uint64_t hardware_exit_reason; } hw;
        struct { uint64_t hardware_entry_failure_reason; uint32_t cpu; } fail_entry;
        struct { uint8_t direction, size; uint16_t port; uint32_t count; uint64_t data_offset; } io;
        struct { uint64_t phys_addr; uint8_t data[8]; uint32_t len; uint8_t is_write; } mmio;
        struct { uint32_t suberror, ndata; uint64_t data[16]; } internal;
        struct {
            uint32_t suberror, ndata;
            uint64_t flags;
            uint8_t insn_size, insn_bytes[15];
        } emulation_failure;
        struct { uint32_t type, ndata; uint64_t data[16]; } system_event;
        char padding[256];
    };
    uint64_t kvm_valid_regs, kvm_dirty_regs;
    union { char padding[2048]; } s;
};
"""

_OURS = """
struct power_timer { ...; };
uint32_t power_timer_ticks(const struct power_timer *timer);
void power_timer_set(struct power_timer *timer, uint32_t ticks);

struct serial_registers {
    uint8_t interrupts_enabled, fifo_control, line_control, modem_control, scratch, divisor_low, divisor_high;
    uint8_t errors, modem_changes, is_emptied;
};
struct serial_counters { uint64_t transmitted, received, dropped; };
struct serial { struct serial_counters counters; ...; };
size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t length);
void serial_attach(struct serial *serial, int client);
void serial_reset(struct serial *serial);
size_t serial_save(struct serial *serial, struct serial_registers *registers, uint8_t *input);
void serial_restore(
    struct serial *serial, const struct serial_registers *registers, const uint8_t *input, size_t length);

struct board { struct serial serial; struct power_timer timer; ...; };
void board_init(struct board *board, int vm, int log);

struct vcpu_counters { uint64_t exits, answered, passed[...]; };
struct vcpu { struct vcpu_counters counters; ...; };
void vcpu_init(struct vcpu *vcpu, int fd, struct kvm_run *run, struct board *board);
void vcpu_retire(struct vcpu *vcpu);
int vcpu_run(struct vcpu *vcpu);
void vcpu_kick(struct vcpu *vcpu);
void vcpu_clear_kick(struct vcpu *vcpu);

void pages_add(uint64_t *set, size_t first, size_t end);
void pages_move(uint64_t *from, uint64_t *to, size_t words);
size_t pages_count(const uint64_t *set, size_t words);
size_t pages_run(const uint64_t *set, size_t pages, size_t from, size_t *end);
size_t pages_alike(const uint8_t *memory, size_t pages, int *are_zeros);
"""


def make_builder() -> cffi.FFI:
    """For ``cffi_modules``."""
    builder = cffi.FFI()
    builder.cdef("".join(f"#define {constant} ...\n" for constant in _CONSTANTS) + _KERNEL + _OURS)
    builder.set_source(
        "compute_agent.virt.kvm._binding",
        '#include <sys/ioctl.h>\n#include "pages.h"\n#include "vcpu.h"\n',
        sources=sorted(map(str, _NATIVE.glob("*.c"))),
        depends=sorted(map(str, _NATIVE.glob("*.h"))),
        include_dirs=[str(_NATIVE)],
        extra_compile_args=["-std=gnu11", "-pthread"],
    )
    return builder
