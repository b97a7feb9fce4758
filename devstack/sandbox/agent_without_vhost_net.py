"""The dying agent where KVM runs a few bytes in real mode and no more, and no kernel serves NICs.

A stand-in for what a host must have for machines of our own: the agent is told that it has it, and does what it would
do there. Its guests have a firmware that such a KVM can run, and no NICs (`tests.functional.machine_scene`).
Usage: as `sandbox.dying_agent`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm import driver
from compute_agent.virt.vmm.support import Support


def _believed(_: VirtSettings) -> Support:
    return Support(problem=None, max_vcpus=1, tsc_khz=1_000_000)


def believe_in_vhost_net() -> None:
    """In this process."""
    driver.VmmHypervisor.__init__.__defaults__ = (*(driver.VmmHypervisor.__init__.__defaults__ or ())[:-1], _believed)


if __name__ == "__main__":
    believe_in_vhost_net()
    runpy.run_path(str(Path(__file__).with_name("dying_agent.py")), run_name="__main__")
