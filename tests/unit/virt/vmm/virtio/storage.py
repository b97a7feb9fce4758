"""A real vhost-user-blk server on a qcow2 image, and the requests that a driver makes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from tests.unit.virt.vmm.virtio.driver import DriverQueue

MIB = 1024**2
SECTOR = 512
IN, OUT, FLUSH = 0, 1, 4
OK, IO_ERROR, UNSUPPORTED = 0, 1, 2


class StorageDaemon:
    """qemu-storage-daemon; ready once it is made."""

    def __init__(self, directory: Path, image: Path, *, queues: int = 1, writable: bool = True) -> None:
        self._directory = Path(tempfile.mkdtemp(dir=directory))
        self._sockets = {name: self._directory / name for name in ("disk", "monitor")}
        export = f"type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={self._sockets['disk']}"
        subprocess.run(
            [
                *("qemu-storage-daemon", "--daemonize", "--pidfile", str(self._directory / "pid")),
                *("--blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={image}"),
                *("--chardev", f"socket,id=monitor,path={self._sockets['monitor']},server=on,wait=off"),
                *("--monitor", "monitor"),
                *("--export", f"{export},num-queues={queues},writable={'on' if writable else 'off'}"),
            ],
            check=True,
            timeout=30,
        )
        self._process = os.pidfd_open(int((self._directory / "pid").read_text()))

    def connect(self) -> socket.socket:
        return self._connect("disk")

    def ask(self, command: str, **arguments: object) -> None:
        """Over QMP."""
        with self._connect("monitor") as monitor, monitor.makefile("rw") as stream:
            for name, values in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": values}))
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer

    def stop(self, how: int = signal.SIGTERM) -> None:
        """And wait. May be repeated."""
        if self._process >= 0:
            signal.pidfd_send_signal(self._process, how)
            assert select.select([self._process], [], [], 10)[0], "it does not end"
            os.close(self._process)
            self._process = -1

    def _connect(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self._sockets[name]))
        return connection


def make_image(path: Path, size: int = 16 * MIB) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)], check=True, timeout=30)
    return path


def image_has(image: Path, byte: int, offset: int, length: int) -> bool:
    """All of these bytes, says qemu-io."""
    read = ["qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {byte} {offset} {length}", str(image)]
    ran = subprocess.run(read, capture_output=True, text=True, timeout=30)
    return ran.returncode == 0 and "failed" not in ran.stdout


def write_sectors(queue: DriverQueue, sector: int, content: bytes) -> int:
    """The status."""
    return finish(queue, queue.add(struct.pack("<IIQ", OUT, 0, sector), content, 1)[-1])


def read_sectors(queue: DriverQueue, sector: int, length: int) -> tuple[int, bytes]:
    """The status, and what was read."""
    _, room, status = queue.add(struct.pack("<IIQ", IN, 0, sector), length, 1)
    return finish(queue, status), queue.ram.read(room, length)


def flush(queue: DriverQueue) -> int:
    return finish(queue, queue.add(struct.pack("<IIQ", FLUSH, 0, 0), 1)[-1])


def finish(queue: DriverQueue, status: int) -> int:
    queue.ram.write(status, b"\xff")
    queue.kick()
    queue.wait()
    return queue.ram.read(status, 1)[0]
