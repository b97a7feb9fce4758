"""The parts of confinement that need no privilege."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compute_agent.host.confinement.order import Order, receive_order, send_order
from compute_agent.host.confinement.server import READY, ForkServer
from compute_agent.host.confinement.system_calls import REFUSED, REFUSED_TO_SERVERS, refusing

_PROGRAM = """
import ctypes, errno, os, socket
from compute_agent.host.confinement.kernel import prctl
from compute_agent.host.confinement.system_calls import REFUSED, refuse_system_calls
prctl(38, 1)
refuse_system_calls(REFUSED)
libc = ctypes.CDLL(None, use_errno=True)
for name, number in REFUSED.items():
    assert libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EPERM, name
    assert libc.syscall(number | 0x40000000, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == errno.EPERM, name
print(os.getppid() > 0 and "the others work")
"""

_MACHINE = """
import errno, os, socket, threading
from compute_agent.host.confinement.system_calls import RUNNING, allow_only
ours, theirs = socket.socketpair()
asked, tried = threading.Event(), []
def serve():
    asked.wait()
    for call in (lambda: os.open("/dev/null", os.O_RDONLY), socket.socket, os.fork, os.pipe):
        try:
            call()
        except OSError as error:
            tried.append(error.errno)
    theirs.sendall(os.pread(file, 3, 0))
file = os.memfd_create("content")
os.write(file, b"all")
thread = threading.Thread(target=serve)
thread.start()
allow_only(RUNNING)
asked.set()
thread.join()
try:
    threading.Thread(target=print).start()
except RuntimeError:
    tried.append(errno.EPERM)
assert tried == [errno.EPERM] * 5, tried
print(ours.recv(9).decode())
"""


def test_a_fork_server_ends_with_an_agent_that_is_killed_before_it_reads_an_answer(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, (tmp_path / "lock").open("w") as lock, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(ForkServer(theirs, lock.fileno(), lambda order: None).serve)
        with ours:
            assert ours.recv(100, socket.MSG_PEEK) == READY
        serving.result(timeout=10)


def test_only_what_is_listed_is_allowed_in_threads_that_run_already() -> None:
    done = subprocess.run([sys.executable, "-c", _MACHINE], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("all\n", "")


def test_filter_refuses_what_it_lists_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("the others work\n", "")
    assert len(refusing(REFUSED)) == 8 * (len(REFUSED) + 8)


def test_servers_may_make_sockets_and_no_more_than_guests_otherwise() -> None:
    assert REFUSED.keys() - REFUSED_TO_SERVERS.keys() == {"socket"}
    assert REFUSED_TO_SERVERS.items() <= REFUSED.items()


def test_order_arrives_with_more_descriptors_than_fit_into_a_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = Order(
        arguments=["a", "-b"], environment={"C": "d"}, uid=7, devices=["kvm"], is_server=True, cgroups=1, numbers=[3, 4]
    )
    with ours, theirs, open(os.devnull) as file:  # noqa: PTH123
        send_order(ours, order, [file.fileno()] * 400)
        received = receive_order(theirs)
        assert received is not None
        assert received[0] == order
        assert len(received[1]) == 400
        assert not any(os.get_inheritable(fd) for fd in received[1])
        for fd in received[1]:
            os.close(fd)


def test_end_of_the_agent_ends_the_orders() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.send(b'{"descriptors": 1}')
        ours.close()
        assert receive_order(theirs) is None
        assert receive_order(theirs) is None
