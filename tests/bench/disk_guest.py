"""A guest of the agent's own arguments, by hand: a plain qcow2 drive, and an image in Ceph by QEMU's own librbd."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox import images
from sandbox.ceph import Ceph
from tests.functional.guests import until
from tests.functional.shell import run_over

_SECONDS = 30.0


class DiskGuestByHand:
    """Runs as root, confined by nothing. A context manager."""

    def __init__(self, pid: int, directory: Path, ceph: Ceph) -> None:
        """`pid` is of the agent's guest, whose disk0 is a file and disk1 in Ceph."""
        self._directory = directory
        self.console = directory / "console.sock"
        self._monitor = directory / "monitor.sock"
        self._ceph = ceph
        self._image = f"hand-{uuid.uuid4().hex[:8]}"
        self._model = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0")
        self._stream = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> DiskGuestByHand:
        self._directory.mkdir(parents=True)
        disk = self._directory / "disk0.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True, timeout=_SECONDS)
        self._ceph.rbd("create", f"{self._ceph.pool}/{self._image}", "--size", "1G")
        self._process = subprocess.Popen(self._command(disk), stdin=subprocess.DEVNULL)
        self._stream.settimeout(_SECONDS)
        until(lambda: self._stream.connect_ex(str(self._monitor)) == 0)
        self._lines = self._stream.makefile("r")
        self._lines.readline()
        self.ask("qmp_capabilities")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_SECONDS)
        self._stream.close()

    def shell(self, command: str) -> str:
        """What a command in the guest prints."""
        return run_over(self.console, command, 120)

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Return when QEMU has done it."""
        message = {"execute": command, "arguments": arguments or {}}
        self._stream.sendall(json.dumps(message).encode() + b"\n")
        answer = self._until(lambda said: "return" in said or "error" in said)
        assert "return" in answer, answer

    def await_deleted(self, device: str) -> None:
        """Until the guest has let go of it."""
        self._until(lambda said: said.get("event") == "DEVICE_DELETED" and said["data"].get("device") == device)

    def _until(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not is_it(said := json.loads(self._lines.readline())):
            pass
        answer: dict[str, Any] = said
        return answer

    def _command(self, disk: Path) -> list[str]:
        text = re.sub(r"-(add-fd|sandbox)\0[^\0]*\0|-S\0", "", self._model)
        text = re.sub(r"id=(monitor|console|guest-agent),fd=\d+", rf"id=\1,path={self._directory}/\1.sock", text)
        text = re.sub(r",logfile=/dev/fdset/1,logappend=on", "", text)
        text = re.sub(r"-kernel\0[^\0]*", f"-kernel\0{images.kernel()}", text)
        text = re.sub(r"-initrd\0[^\0]*", f"-initrd\0{images.ramdisk()}", text)
        text = re.sub(r'\{[^\0]*"node-name":"disk0"[^\0]*', json.dumps(self._file_node(disk)), text)
        text = re.sub(r'\{[^\0]*"node-name":"disk1"[^\0]*', json.dumps(self._ceph_node()), text)
        secret = f"secret,id=key,format=base64,file={self._ceph.secret_dir / self._ceph.secret_uuid}"
        program, *arguments = text.split("\0")
        return [program, "-object", secret, *arguments]

    def _file_node(self, path: Path) -> dict[str, Any]:
        return {"driver": "qcow2", "node-name": "disk0", "file": {"driver": "file", "filename": str(path)}}

    def _ceph_node(self) -> dict[str, Any]:
        """Without librbd's cache, as the block server must be: what it acknowledges outlives it."""
        place = {"pool": self._ceph.pool, "image": self._image, "conf": str(self._ceph.conf), "user": self._ceph.user}
        secret = {"key-secret": "key", "auth-client-required": ["cephx"]}
        return {"driver": "rbd", "node-name": "disk1", **place, **secret, "cache": {"direct": True}}
