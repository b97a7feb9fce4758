"""A private NFS server in user space: one directory, for all who reach an address of the sandbox. NFS-Ganesha 4.

It looks that address up as if it were a name, which fails where the sandbox has no address but the loopback's.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.commands import SandboxError
from sandbox.notify import tail, wait_for_end
from sandbox.service import Service

_PROGRAM = "/usr/bin/ganesha.nfsd"
_CONFIGURATION = """\
NFS_CORE_PARAM {{
    Protocols = 4;
    Bind_addr = {address};
    Enable_NLM = false;
    Enable_RQUOTA = false;
}}
NFSv4 {{
    Minor_Versions = 1, 2;
    Graceless = true;  # nobody has locks to claim from an earlier server
    RecoveryBackend = fs;
    RecoveryRoot = "{directory}/recovery";
    Only_Numeric_Owners = true;
}}
EXPORT {{
    Export_Id = 1;
    Path = "{exported}";
    Pseudo = "/shared";
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    FSAL {{ Name = VFS; }}
}}
"""
_PORT = 2049
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 30.0
_LOOK_AGAIN = 0.05


class NfsServer(Service):
    """Exports a directory as ``/shared``, to root as root, by NFS 4.1 and 4.2. A context manager."""

    def __init__(self, directory: Path, exported: Path, address: str) -> None:
        """It makes `directory`, for its own files, and `exported`."""
        self.log = directory / "ganesha.log"
        self._directory = directory
        self._exported = exported
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it takes connections.

        :raises SandboxError: with the end of its log; no process is left.
        """
        self._directory.mkdir()
        self._exported.mkdir()
        configuration = self._directory / "ganesha.conf"
        configuration.write_text(
            _CONFIGURATION.format(address=self._address, directory=self._directory, exported=self._exported)
        )
        self._process = subprocess.Popen(
            [_PROGRAM, "-F", "-f", configuration, "-L", self.log, "-p", self._directory / "pid", "-N", "EVENT"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_connection(self._process)
        except SandboxError:
            self.stop()
            raise

    def stop(self) -> None:
        """Nothing happens where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            wait_for_end(process, _STOP_TIMEOUT)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It answers nobody meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _await_connection(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._takes_connections():
            if process.poll() is not None:
                raise SandboxError(f"{_PROGRAM} ended with status {process.returncode}\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise SandboxError(f"{_PROGRAM} takes no connections after {_START_TIMEOUT:g} s\n{tail(self.log)}")
            time.sleep(_LOOK_AGAIN)

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection((self._address, _PORT), _START_TIMEOUT).close()
        except OSError:
            return False
        return True
