"""The floor: the same QEMU that the agent started, started by hand with the tools that an operator would use.

qemu-img makes the disk, ip the tap, ovs-vsctl the port; QEMU gets the arguments that the agent gave its own,
with names in place of descriptors; one talks QMP to it over its socket. It runs as root, confined by nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import uuid
from pathlib import Path

COMMAND_SECONDS = 30

_DISK, _IMAGE = "/dev/fdset/2", "/dev/fdset/3"
"""What QEMU knows the disk's own file by, and the one that it stands on."""


def arguments_of(pid: int, image: Path) -> list[str]:
    """The command line of a running guest with one disk on `image`, with names in place of descriptors."""
    text = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    open_files = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    (disk,) = {path for path in open_files if path.endswith("/disk0.qcow2")}
    # The agent's own name for the image goes with its guest.
    text = text.replace(f'"{_DISK}"', f'"{disk}"').replace(f'"{_IMAGE}"', f'"{image}"')
    return re.sub(r"-add-fd\0[^\0]*\0", "", text).rstrip("\0").split("\0")


class GuestByHand:
    """One guest with one disk on an image, and one port."""

    def __init__(self, model: list[str], directory: Path, connection: str, bridge: str) -> None:
        """`model` are the arguments of a guest of the agent."""
        self._directory = directory / uuid.uuid4().hex[:8]
        self._tap = f"hand{uuid.uuid4().hex[:8]}"
        self._vsctl = ["ovs-vsctl", f"--db={connection}", "--timeout=30"]
        self._bridge = bridge
        self._disk = self._directory / "disk0.qcow2"
        self._monitor = self._directory / "monitor.sock"
        self._command = self._by_name(model)
        (self._image,) = set(re.findall(r'"filename":"([^"]*\.raw)"', "".join(model)))
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """On return it runs."""
        self._directory.mkdir(parents=True)
        _run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self._image, str(self._disk), "1G")
        _run("ip", "tuntap", "add", self._tap, "mode", "tap", "vnet_hdr")
        _run("ip", "link", "set", self._tap, "mtu", "1500", "up")
        interface = ["--", "set", "interface", self._tap, f"external_ids:iface-id={uuid.uuid4()}"]
        _run(*self._vsctl, "add-port", self._bridge, self._tap, *interface)
        with _listen(self._monitor) as listener:
            command = [part.replace("fd=MONITOR", f"fd={listener.fileno()}") for part in self._command]
            self._process = subprocess.Popen(
                command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._ask("cont")
        assert self._ask("query-status")["return"]["status"] == "running"

    def destroy(self) -> None:
        """On return nothing of it is left."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(COMMAND_SECONDS)
        _run(*self._vsctl, "del-port", self._tap)
        _run("ip", "link", "delete", self._tap)
        _run("rm", "-r", str(self._directory))

    def _ask(self, command: str) -> dict[str, dict[str, str]]:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(COMMAND_SECONDS)
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as stream:
                stream.readline()
                for one in ("qmp_capabilities", command):
                    stream.write(json.dumps({"execute": one}) + "\n")
                    stream.flush()
                    while "return" not in (answer := json.loads(stream.readline())):
                        pass
        return answer  # type: ignore[no-any-return]

    def _by_name(self, model: list[str]) -> list[str]:
        text = "\0".join(model)
        text = re.sub(r"id=monitor,fd=\d+", "id=monitor,fd=MONITOR", text)
        text = re.sub(r"-sandbox\0[^\0]*\0", "", text)
        text = text.replace("logfile=/dev/fdset/1", f"logfile={self._directory}/console.log")
        text = re.sub(r"(tap,id=[^,\0]*),fds=[\d:]+", rf"\1,ifname={self._tap},script=no,downscript=no", text)
        text = re.sub(r"id=(console|guest-agent),fd=\d+", rf"id=\1,path={self._directory}/\1.sock", text)
        text = re.sub(r'"filename":"[^"]*/disk0\.qcow2"', f'"filename":"{self._disk}"', text)
        return text.split("\0")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(bytes(path))
    listener.listen(1)
    os.set_inheritable(listener.fileno(), True)
    return listener


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_SECONDS)
