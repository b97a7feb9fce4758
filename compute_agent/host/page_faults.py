"""userfaultfd(2): a process that is asked for pages of its memory when they are touched, which post-copy needs.

KVM and vhost touch them too, in the kernel, and a process without privileges is asked for those only where the host
allows that to all. QEMU 7.2 knows nothing of /dev/userfaultfd, to which one could be let instead.
"""

from __future__ import annotations

from pathlib import Path

SYSCTL = "vm.unprivileged_userfaultfd"


def find_problem(*, privileged: bool, root: Path = Path("/")) -> str | None:
    """Why a process cannot, `privileged` as root is; None: it can."""
    try:
        allowed = root.joinpath("proc/sys", *SYSCTL.split(".")).read_text().strip()
    except OSError:
        return "this kernel has no userfaultfd"
    return None if privileged or allowed == "1" else f"{SYSCTL} is {allowed}, and guests have no privileges"
