"""One virtual machine."""

from __future__ import annotations

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.board import Board
from compute_agent.virt.kvm.interrupts import InterruptControllers
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.requests import Request
from compute_agent.virt.kvm.statistics import read_statistics
from compute_agent.virt.kvm.vcpu import Vcpu

_PAGE = 4096
_BITS_TOGETHER = 64


class Vm(InterruptControllers):
    """Its memory and vCPUs are closed by whoever made them; the machine ends with the last descriptor."""

    def __init__(self, fd: int, shared_size: int) -> None:
        """:param shared_size: of what the kernel shares with us for each vCPU, bytes."""
        super().__init__(fd)
        self._shared_size = shared_size

    def add_memory(self, slot: int, guest_address: int, memory: GuestMemory) -> None:
        """Show the guest all of `memory` at a physical address; `slot` numbers the pieces."""
        self.set_memory(slot, guest_address, memory.host_address, memory.size)

    def set_memory(  # noqa: PLR0913
        self,
        slot: int,
        guest_address: int,
        host_address: int,
        size: int,
        *,
        log_dirty: bool = False,
        read_only: bool = False,
    ) -> None:
        """Show the guest `size` bytes of ours, whole pages, at a physical address; or change how it sees them.

        :param slot: numbers the pieces. What it was can be moved, or its logging changed; its size cannot.
        :param log_dirty: keep a log of which pages the guest writes.
        :param read_only: what the guest writes there is an exit (KVM_EXIT_MMIO).
        """
        region = ffi.new(
            "struct kvm_userspace_memory_region *",
            {
                "slot": slot,
                "flags": log_dirty * lib.KVM_MEM_LOG_DIRTY_PAGES | read_only * lib.KVM_MEM_READONLY,
                "guest_phys_addr": guest_address,
                "memory_size": size,
                "userspace_addr": host_address,
            },
        )
        self.ask(Request.KVM_SET_USER_MEMORY_REGION, region)

    def remove_memory(self, slot: int) -> None:
        """The guest does not see it any more."""
        self.set_memory(slot, 0, 0, 0)

    def dirty_log(self, slot: int, size: int) -> bytes:
        """What the guest has written since it was asked last: a bit for each page, the lowest bit first.

        :param size: of the slot, bytes.
        """
        words = -(-size // (_PAGE * _BITS_TOGETHER))
        bitmap = ffi.new("uint64_t[]", words)
        self.ask(Request.KVM_GET_DIRTY_LOG, ffi.new("struct kvm_dirty_log *", {"slot": slot, "dirty_bitmap": bitmap}))
        return bytes(ffi.buffer(bitmap))

    def add_notifier(self, address: int, size: int, fd: int) -> None:
        """Let a guest's write to an address be a write to the eventfd, and no exit.

        :param size: bytes that the guest must write at once; 0 for a write of any width.
        """
        self._set_notifier(address, size, fd, 0)

    def remove_notifier(self, address: int, size: int, fd: int) -> None:
        """As it was added."""
        self._set_notifier(address, size, fd, lib.KVM_IOEVENTFD_FLAG_DEASSIGN)

    def clock(self) -> int:
        """The guest's KVM clock, in nanoseconds."""
        data = ffi.new("struct kvm_clock_data *")
        self.ask(Request.KVM_GET_CLOCK, data)
        return int(data.clock)

    def set_clock(self, nanoseconds: int) -> None:
        """Let it go on from there."""
        self.ask(Request.KVM_SET_CLOCK, ffi.new("struct kvm_clock_data *", {"clock": nanoseconds}))

    def statistics(self) -> dict[str, int]:
        """What the kernel counts about it, by the kernel's names."""
        return read_statistics(self)

    def create_board(self, log: int = -1) -> Board:
        """The devices that are answered without Python, for all its vCPUs.

        :param log: a file that takes what the guest writes to its serial port; stays the caller's, and open. -1: none.
        """
        return Board(self._fd, log)

    def create_vcpu(self, number: int, board: Board | None = None) -> Vcpu:
        """A vCPU as after reset; `number` is its APIC id too.

        :param board: answers some of its exits; without one, all come to who runs it.
        """
        xsave_size = self.ask(Request.KVM_CHECK_EXTENSION, lib.KVM_CAP_XSAVE2)
        return Vcpu(self.ask(Request.KVM_CREATE_VCPU, number), self._shared_size, xsave_size, board)

    def _set_notifier(self, address: int, size: int, fd: int, flags: int) -> None:
        notifier = {"addr": address, "len": size, "fd": fd, "flags": flags}
        self.ask(Request.KVM_IOEVENTFD, ffi.new("struct kvm_ioeventfd *", notifier))
