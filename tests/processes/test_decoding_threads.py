"""A type that two threads decode for the first time at once must not end the process (msgspec 0.22.0 does that)."""

from __future__ import annotations

import subprocess
import sys

import pytest

RACE = """
import sys, threading
import msgspec
from {module} import {name}
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def decode():
    barrier.wait()
    try:
        msgspec.json.decode(b"{{}}", type={name})
    except msgspec.ValidationError:
        pass
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("compute_agent.agent.journal.rows", "Request"),
        ("compute_agent.instance.record", "InstanceRecord"),
        ("compute_agent.rpc.decode", "VERBS['build_and_run_instance']"),
        ("compute_agent.rpc.client", "InstanceView"),
    ],
)
def test_many_threads_may_be_the_first(module: str, name: str) -> None:
    source = RACE.replace("import {name}", "import " + name.partition("[")[0]).format(module=module, name=name)
    for _ in range(3):
        assert subprocess.run([sys.executable, "-W", "ignore", "-c", source], timeout=30).returncode == 0
