"""The threads that run a machine's processors: all of them run, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from compute_agent.errors import DeadlineExceeded
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.vmm.process_log import say_failed

_STOP_SECONDS = 10.0
"""A processor stops between two instructions, or after an access to a device has been answered."""


class Processor(Protocol):
    """KVM's part: a vCPU."""

    def run(self) -> int:
        """Until it needs us or was kicked; why."""

    def kick(self) -> None:
        """Let `run` return, now or as soon as it is called. From any thread."""

    def clear_kick(self) -> None:
        """Let `run` run again."""

    def complete_io(self) -> int:
        """What it asked a device for has been answered: let it take the answer, and go no further.

        Another reason than a kick: it needs one more.
        """


class Processors:
    """Each in a thread of its own, stopped at first. Safe to be used from several threads.

    One that fails stops all of them, and says why: a guest never hangs in silence.
    """

    def __init__(
        self, vcpus: Sequence[Processor], serve: Callable[[int, int], None], failed: Callable[[str], None]
    ) -> None:
        """:param serve: answers an exit, of a processor's number and a reason, on that processor's thread.
        :param failed: is told why, on the processor's thread.
        """
        self._vcpus = vcpus
        self._serve = serve
        self._failed = failed
        self._changed = threading.Condition()
        self._is_wanted = self._is_over = False
        self._stopped = 0
        threads = [threading.Thread(target=self._live, args=(n,), name=f"vcpu{n}") for n in range(len(vcpus))]
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._threads = threads

    def go(self) -> None:
        """Let them run. Nothing happens where they do."""
        with self._changed:
            self._is_wanted = True
            self._changed.notify_all()

    def hold(self) -> None:
        """Let them stop soon. May be called on one of their threads, which will not run another instruction."""
        with self._changed:
            self._is_wanted = False
            for vcpu in self._vcpus:
                vcpu.kick()

    def stop(self) -> None:
        """Hold them and wait until they have stopped. Not on one of their threads.

        :raises DeadlineExceeded: one has not; it will, if ever.
        """
        self.hold()
        with self._changed:
            if not self._changed.wait_for(lambda: self._stopped == len(self._vcpus), _STOP_SECONDS):
                raise DeadlineExceeded(f"the guest's processors have not stopped in {_STOP_SECONDS:g} s")

    def thread_ids(self) -> list[int | None]:
        """The kernel's, of each processor."""
        return [thread.native_id for thread in self._threads]

    def close(self) -> None:
        """End the threads. They must have stopped."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _live(self, number: int) -> None:
        while self._wait(self._vcpus[number]):
            try:
                self._run(number, self._vcpus[number])
            except Exception as error:  # noqa: BLE001  this thread's edge: the machine is to know what becomes of it
                say_failed(f"Processor {number} has failed", error)
                self.hold()
                self._failed(f"processor {number}: {error}")

    def _wait(self, vcpu: Processor) -> bool:
        """Until it is to run; False: never again."""
        with self._changed:
            self._stopped += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_wanted or self._is_over)
            self._stopped -= 1
            vcpu.clear_kick()  # under the lock: whoever wants it to stop kicks it after this
            return not self._is_over

    def _run(self, number: int, vcpu: Processor) -> None:
        while self._is_wanted:
            self._serve(number, vcpu.run())
        while (reason := vcpu.complete_io()) != ExitReason.KVM_EXIT_INTR:
            self._serve(number, reason)
