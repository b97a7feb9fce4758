"""What keeps the processes of machines small, done once in their fork server.

A machine shares with the fork server what neither of them writes to. CPython writes to every object that it uses (it
counts who does), so each page with one such object on it becomes the machine's own: what counts is what a machine does
between its fork and its guest's first instruction, and where that is in memory.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import msgspec

from compute_agent.host.confinement.kernel import keep_pages_small, use_one_heap
from compute_agent.virt.vmm.monitor.command import Arguments
from compute_agent.virt.vmm.plan import Plan

_STACK = 1024**2
"""Bytes: less than a huge page, so that none of it can be one."""


def make_small() -> None:
    """Before the first machine is forked, with all modules imported."""
    learn_messages()
    use_one_heap()
    threading.stack_size(_STACK)
    gc.collect()
    gc.freeze()  # or a machine's first collection would write to all of it
    keep_pages_small()


def learn_messages() -> None:
    """What msgspec finds out of a type's annotations it keeps: 330 KiB that each machine would write for itself."""
    for kind in (Plan, *_kinds_of(Arguments)):
        msgspec.json.Decoder(kind)


def _kinds_of(base: type[Arguments]) -> Iterator[type[Arguments]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds_of(kind)
