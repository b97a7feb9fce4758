"""What this host's QEMU is and can do. Found out once, by running it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

from compute_agent.errors import HostError
from compute_agent.virt.kvm.capabilities import KvmCapabilities
from compute_agent.virt.kvm.capabilities import find_capabilities as find_kvm_capabilities
from compute_agent.virt.qemu.accelerator import Accelerator, choose_accelerator
from compute_agent.virt.settings import VirtSettings

_WITHOUT_A_MACHINE = ("-no-user-config", "-nodefaults", "-display", "none", "-machine", "none", "-qmp", "stdio")
_NOT_ALONE = ("setpriv", "--pdeathsig", "KILL")
"""An agent that dies before it has told it to quit leaves nobody who waits for that."""

Command = tuple[str, Mapping[str, object]]
"""Of QMP: its name and its arguments."""
_Q35 = re.compile(r"pc-q35-(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    version: str
    machine_type: str
    """The newest versioned q35."""
    machine_types: frozenset[str]
    """All that it knows."""
    accelerator: Accelerator
    kvm: KvmCapabilities


def find_capabilities(settings: VirtSettings) -> Capabilities:
    """Run QEMU without a machine and ask it, then find out which accelerator works.

    :raises HostError: QEMU does not run, or does not know q35.
    """
    version, machines = ask(settings, [("query-version", {}), ("query-machines", {})])
    names = [str(machine["name"]) for machine in machines]
    return Capabilities(
        version="{major}.{minor}.{micro}".format(**version["qemu"]),
        machine_type=newest_q35(names),
        machine_types=frozenset(names),
        accelerator=choose_accelerator(settings),
        kvm=find_kvm_capabilities(),
    )


def newest_q35(machine_types: Iterable[str]) -> str:
    """The versioned q35 machine type with the highest version.

    :raises HostError: there is none.
    """
    versions = [(int(match[1]), int(match[2])) for name in machine_types if (match := _Q35.fullmatch(name))]
    if not versions:
        raise HostError("QEMU offers no versioned q35 machine type")
    return "pc-q35-{}.{}".format(*max(versions))


def ask(settings: VirtSettings, commands: Sequence[Command], accelerator: str = "tcg") -> list[Any]:
    """The answers to a batch of QMP commands, which is given to a QEMU without a machine, and read as a whole.

    :raises HostError: QEMU does not run, or does not answer.
    """
    words = [("qmp_capabilities", {}), *commands, ("quit", {})]
    batch = "".join(json.dumps({"execute": name, "arguments": arguments}) + "\n" for name, arguments in words)
    with TemporaryFile() as said:  # not a pipe: a QEMU that is to quit leaves unsaid what nobody reads at once
        try:
            subprocess.run(
                [*_NOT_ALONE, settings.qemu_binary, *_WITHOUT_A_MACHINE, "-accel", accelerator],
                input=batch.encode(),
                stdout=said,
                stderr=subprocess.PIPE,
                timeout=settings.start_timeout,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise HostError(f"{settings.qemu_binary} does not work: {error}") from error
        said.seek(0)
        answers = [json.loads(line) for line in said]
    found = [answer["return"] for answer in answers if "return" in answer][1:-1]
    if len(found) != len(commands):
        names = ", ".join(dict.fromkeys(name for name, _ in commands))
        raise HostError(f"{settings.qemu_binary} answers {len(found)} of {len(commands)} questions: {names}")
    return found
