"""The fork server of machines: ``python -m compute_agent.virt.vmm.fork_server CONTROL LOCK TREE...``.

Its children have the interpreter, with all modules of a machine, in memory that they share; so a machine takes a few
milliseconds to start, and little memory. None of them imports anything later: there are no modules where they live.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # msgspec does without, and a machine is then without what that imports: 1 MiB, a quarter of which it would write to
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]

from compute_agent.host.confinement.kernel import close_all_but, name_process, tell_python_of_fork
from compute_agent.host.confinement.order import Order
from compute_agent.host.confinement.server import serve
from compute_agent.virt.vmm.footprint import make_small
from compute_agent.virt.vmm.process import run
from compute_agent.virt.vmm.process_log import say_failed

_NAME = "vmm"
"""As tools show it, for which all children would be ``python`` otherwise."""


def become_machine(order: Order) -> None:
    """Never returns. What goes wrong from here on is in the log only: that the agent hears nothing tells it so far."""
    tell_python_of_fork()
    name_process(_NAME)
    close_all_but({0, 1, 2, *order.numbers})
    status = 1
    try:
        status = run(order.arguments[0])
    except Exception as error:  # noqa: BLE001  the process's edge
        say_failed("The machine has come to an unforeseen end", error)
    finally:
        os._exit(status)


if __name__ == "__main__":
    make_small()
    serve(sys.argv[1:], become_machine)
