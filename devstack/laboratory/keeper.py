"""The process inside the namespaces that starts a lab and stays: they, and all that is in them, end with it.

It is told what to start on its command line, in JSON, and answers with lines of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from laboratory.laboratory import Laboratory
from laboratory.settings import HostSettings
from sandbox.commands import SandboxError


def main(order: str) -> int:
    """Return only where the lab did not come up."""
    wanted = json.loads(order)
    settings = HostSettings(**wanted["settings"])
    directory = Path(tempfile.mkdtemp(prefix="lab-")) / "lab"  # in the sandbox's own directory, which goes with it
    try:
        with Laboratory(directory, wanted["hosts"], settings, offers=wanted["offers"], say=_say) as lab:
            _tell(up=_description(lab))
            _close_output()
            while True:
                signal.pause()
    except SandboxError as error:
        _tell(failed=str(error))
        return 1


def _description(lab: Laboratory) -> dict[str, Any]:
    return {
        "directory": str(lab.directory),
        "transport_url": lab.broker.transport_url,
        "hosts": {host.name: host.address for host in lab.hosts},
    }


def _say(text: str) -> None:
    _tell(say=text)


def _tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _close_output() -> None:
    """Nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
