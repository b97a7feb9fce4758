"""What agents died of in one run of `make crash`, and the table that is made of it: docs/crash-matrix.md.

python -m tests.functional.death_record RECORD SHARE COMMIT
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

_PLACE = "DEATHS_RECORD"
"""The variable that names the file where deaths are noted, if they are to be."""
_HEAD = """\
# Every step, every death

Made by `make crash`, on real parts (QEMU, Open vSwitch, RabbitMQ, Ceph). Moments are found while an operation is
carried out: before and after each step, and before each change of a file, socket, tap, process or record, and each
command to a QEMU, a switch, a block server or a cluster (`devstack/sandbox/dying_agent.py`). What fails ends the run.

Run on {date}, commit {commit}, {share}: **{cases} cases, {deaths} deaths and failures, all green**.

- *agent*: it kills itself with SIGKILL in one moment of an operation, and once more in the recovery that follows; the
  next one finishes it. Then the operation is done, whoever asks again gets the same answer, another guest has noticed
  nothing, and nothing is left that should not be there: processes, taps, ports, disks, locks, descriptors, rows of the
  journal.
- *process*: the agent stands still in one moment, while the guest's process is killed; in every other one the agent is
  killed with it. Then the operation is finished, or it has failed because the guest has ended and was *undone*; the
  record says what is there, and nothing else is; what is still an instance can be started again.
- What moves an instance between two hosts is carried out by two agents on one machine. The one that dies is the one
  whose operation it is; afterwards exactly one of the two has the instance, and what is *undone* is where it was.
- *between virtual hosts*: with real KVM, kernel datapath and vhost. In each step of a migration one of those named
  fails; the link for 60 s. Afterwards exactly one host has the guest, with all that it wrote.

QEMU's guests run under TCG. Those of `vmm` run in its KVM, but what they run is a firmware of 158 bytes, and they have
no NICs: the agent is told that the machine can do more (`devstack/sandbox/agent_without_vhost_net.py`).
*Moments*: how many the operation had; *cases*: in how many of them something died; a guest has no process in all.

| operation | what fails | hypervisor | disks | steps | moments | cases | deaths | outcome |
|---|---|---|---|---|---|---|---|---|
"""


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """One case."""

    case: str
    who: str = "agent"
    """Or what died, or failed; empty where there was nothing to die."""
    hypervisor: str = "qemu"
    storage: str
    moment: int
    died_in: str
    again: int
    """Deaths in the recovery."""
    moments: int
    steps: int
    """Of the operation, until the first death: all of them where that was at its end."""
    is_undone: bool = False
    """What it had done, in place of being finished."""


def record(death: Death) -> None:
    """Note it, if something died and somebody wants to know."""
    if death.who and (place := os.environ.get(_PLACE)):
        with Path(place).open("ab") as file:
            file.write(msgspec.json.encode(death) + b"\n")


def table(deaths: Iterable[Death], share: int, commit: str) -> str:
    """The page."""
    groups: dict[tuple[str, ...], list[Death]] = defaultdict(list)
    for death in deaths:
        groups[death.who, death.hypervisor, death.storage, death.case].append(death)
    everybody = [death for group in groups.values() for death in group]
    head = _HEAD.format(
        date=datetime.now(UTC).date(),
        commit=commit,
        share="every moment" if share == 1 else f"one moment in {share}",
        cases=len(everybody),
        deaths=sum(1 + death.again for death in everybody),
    )
    return head + "".join(map(_line, _in_order(groups)))


def _in_order(groups: dict[tuple[str, ...], list[Death]]) -> Iterator[list[Death]]:
    return (groups[key] for key in sorted(groups))


def _line(group: list[Death]) -> str:
    moments, steps = (max(getattr(one, what) for one in group) for what in ("moments", "steps"))
    deaths = sum(1 + one.again for one in group)
    cells = (
        group[0].case,
        group[0].who,
        group[0].hypervisor,
        group[0].storage,
        steps or "-",
        moments,
        len(group),
        deaths,
        _outcome(group),
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def _outcome(group: list[Death]) -> str:
    undone = sum(one.is_undone for one in group)
    return f"{len(group) - undone} finished, {undone} undone" if undone else "finished"


def main(place: str, share: str, commit: str) -> None:
    """Print it."""
    lines = Path(place).read_bytes().splitlines()
    print(table([msgspec.json.decode(line, type=Death) for line in lines], int(share), commit), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
