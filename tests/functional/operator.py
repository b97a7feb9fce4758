"""Somebody who types computectl on a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sandbox import images
from sandbox.node import Node

COMPUTECTL = Path(sys.executable).with_name("computectl")
SECONDS = 60
KERNEL_ARGUMENTS = "console=ttyS0 quiet ip0=10.77.0.99/24"


class Operator:
    """Types commands on the node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def command(self, *words: str) -> list[str]:
        return [str(COMPUTECTL), "--config-file", str(self._node.config_file), *words]

    def types(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == status, done.stderr
        return done

    def json(self, *words: str) -> object:
        return json.loads(self.types(*words, "-f", "json").stdout)

    def boots(self, name: str) -> str:
        """The uuid of a tiny guest."""
        files = ["--kernel", str(images.kernel()), "--ramdisk", str(images.ramdisk()), "--append", KERNEL_ARGUMENTS]
        size = ["--vcpus", "1", "--memory", "128", "--blank", "1", "--port", "bridge=br-int,ip=10.77.0.99/24"]
        answer = self.json("boot", name, *size, *files, "--wait")
        assert isinstance(answer, dict)
        return str(answer["instance_uuid"])
