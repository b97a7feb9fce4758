"""Becoming a user without any privilege, for good."""

from __future__ import annotations

import ctypes
import errno
import os
import resource

from compute_agent.host.confinement.kernel import capset, prctl, renounce_new_privileges

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64


def drop_privileges(uid: int) -> None:
    """User and group `uid`, no other groups; all five capability sets empty; no program gives any of it back."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a guest's memory has no business on the host's disk
    _empty_bounding_set()
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    renounce_new_privileges()


def _empty_bounding_set() -> None:
    for capability in range(_MOST_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # the kernel knows no more of them
