"""The process of a machine: it becomes what its plan says, and is asked over its monitor from then on.

Where it is not a child of the fork server: ``python -m compute_agent.virt.vmm.process PLAN``.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from compute_agent.errors import ComputeAgentError
from compute_agent.host.confinement.system_calls import RUNNING, allow_only
from compute_agent.virt.vmm.console import ConsoleServer
from compute_agent.virt.vmm.control import VERSION, commands_of
from compute_agent.virt.vmm.machine import Machine
from compute_agent.virt.vmm.monitor.server import MonitorServer
from compute_agent.virt.vmm.plan import Plan, decode_plan
from compute_agent.virt.vmm.process_log import say


def run(argument: str) -> int:
    """Until the monitor is told to quit; the process's exit status. What goes wrong is on the standard error.

    :param argument: what `compute_agent.virt.vmm.plan.encode_plan` has made.
    """
    try:
        return _serve(decode_plan(argument))
    except ComputeAgentError as error:
        say(f"The machine cannot be made: {error}")
        return 1


def _serve(plan: Plan) -> int:
    events = Events()
    machine = Machine(plan, events.tell)
    ConsoleServer(socket.socket(fileno=plan.console), machine.serial)
    monitor = MonitorServer(socket.socket(fileno=plan.monitor), commands_of(machine), VERSION)
    events.monitor = monitor
    allow_only(RUNNING)
    if plan.saved_state is not None:
        machine.load(plan.saved_state)
    machine.life.serve()
    machine.hold()
    monitor.tell("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
    monitor.close()
    return 0


class Events:
    """Of a machine that is there before its monitor is; before that, nothing happens that anybody should know."""

    def __init__(self) -> None:
        self.monitor: MonitorServer | None = None

    def tell(self, event: str, data: Mapping[str, object]) -> None:
        """To the monitor's client, if there is one."""
        if self.monitor is not None:
            self.monitor.tell(event, data)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
