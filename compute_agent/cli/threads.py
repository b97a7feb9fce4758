"""Threads, never eventlet."""

from __future__ import annotations

import sys


def forbid_eventlet() -> None:
    """Call it before anything imports oslo.messaging, in every program. May be repeated.

    oslo.service, which that imports, takes eventlet wherever it is installed (and its distribution requires it); it
    costs 18 MiB, 0.1 s and a warning on stderr.
    """
    if sys.modules.get("eventlet", sys) is None:
        return  # it was forbidden before
    sys.modules["eventlet"] = None  # type: ignore[assignment]  # the documented way to make its import fail
    from oslo_service import backend  # noqa: PLC0415  it must not be imported any earlier

    backend.init_backend(backend.BackendType.THREADING)
