"""A machine's process needs neither a module nor a system call that its first moments have not seen, and is small.

Its guest is some bytes of firmware in real mode, on this machine's own /dev/kvm: where it cannot be used, this fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from compute_agent.host.unix_sockets import listen_at
from compute_agent.virt.vmm.plan import Plan, encode_plan

PAGE, RESET_VECTOR = 4096, 0xFF0
SAYS_AND_HALTS, TO_THE_START = bytes.fromhex("baf803 b03e ee f4 ebfd"), bytes.fromhex("e90df0")

PROCESS = r"""
import json, os, re, socket, sys, threading, time
from pathlib import Path
sys.modules["typing_extensions"] = None  # as in the fork server
from compute_agent.virt.vmm.fork_server import make_small, run
make_small()
HUGE, smaps = 1 << 21, open("/proc/self/smaps")
UNNEEDED = {"ast", "dataclasses", "inspect", "logging"}
known, plan, path, report = set(sys.modules), *sys.argv[1:]
saved = os.open(os.devnull, os.O_WRONLY)
log = json.loads(plan)["console_log"]
monitor, answers = socket.socket(socket.AF_UNIX), []
monitor.connect(path)
monitor.settimeout(20)
here, there = socket.socketpair()
here.settimeout(20)

def ask(stream, command, fd=None, **arguments):
    request = json.dumps({"execute": command, "arguments": arguments}).encode()
    socket.send_fds(monitor, [request], [fd] if fd is not None else [])
    while (answer := json.loads(stream.readline())).keys().isdisjoint({"return", "error"}):
        pass
    answers.append((command, answer.get("error")))
    return answer.get("return")

def begin(stream, times):
    ask(stream, "cont")
    while os.fstat(log).st_size < times:  # until the guest has said so
        time.sleep(0.001)

def talk():
    stream = monitor.makefile("rb")
    stream.readline()
    ask(stream, "qmp_capabilities")
    for command in ("query-status", "query-commands"):
        ask(stream, command)
    begin(stream, 1)
    for command in ("query-stats", "query-cpus-fast", "query-block", "stop", "system_reset"):
        ask(stream, command)
    begin(stream, 2)
    ask(stream, "stop")
    ask(stream, "getfd", saved, fdname="memory")
    ask(stream, "migrate", uri="fd:memory")
    while ask(stream, "query-migrate")["status"] == "active":
        pass
    move(stream)
    ask(stream, "quit")

def move(stream):
    ask(stream, "cont")
    ask(stream, "getfd", there.fileno(), fdname="there")
    there.close()
    ask(stream, "migrate", uri="fd:there")
    came = b""
    while b"STAT" not in came:  # what it is but for its memory, which comes last
        came = came[-3:] + here.recv(1 << 20)
    here.sendall(b"TAKN" + bytes(8))
    while here.recv(1 << 20):
        pass
    while ask(stream, "query-migrate")["status"] == "active":
        pass
    answers.append(("query-migrate", None if ask(stream, "query-status")["status"] == "postmigrate" else "not moved"))

def huge_pages():
    mappings = re.findall(r"(?ms)^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0 .*?^VmFlags: (.*?)$", smaps.read())
    could_be = [(int(start, 16), int(end, 16)) for start, end, flags in mappings if " nh" not in flags]
    return sum(max(0, end // HUGE - -(start // -HUGE)) for start, end in could_be)

talking = threading.Thread(target=talk)
talking.start()
status = run(plan)
talking.join()
errors = [error for error in answers if error[1]]
modules = sorted(set(sys.modules) - known | UNNEEDED & known)
os.write(int(report), json.dumps([status, errors, modules, huge_pages()]).encode())
os._exit(0)
"""


def test_everything_is_there_before_it_begins_and_no_more(directory: Path) -> None:
    firmware, log, (reading, report) = os.memfd_create("firmware"), os.memfd_create("log"), os.pipe()
    os.write(firmware, SAYS_AND_HALTS.ljust(RESET_VECTOR, b"\0") + TO_THE_START.ljust(PAGE - RESET_VECTOR, b"\0"))
    with listen_at(directory / "monitor") as monitor, listen_at(directory / "console") as console:
        plan = Plan(
            instance_uuid="5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11",
            name="tiny",
            memory=16 * 1024**2,
            vcpus=2,
            monitor=monitor.fileno(),
            console=console.fileno(),
            console_log=log,
            firmware=firmware,
        )
        arguments = [encode_plan(plan), str(directory / "monitor"), str(report)]
        fds = [monitor.fileno(), console.fileno(), log, firmware, report]
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, *arguments], pass_fds=fds, stderr=subprocess.PIPE, text=True, timeout=60
        )
    os.close(report)
    said = os.read(reading, 65536)
    assert said, done.stderr
    assert json.loads(said) == [0, [], [], 0]
    assert os.pread(log, 10, 0).startswith(b">>")
    for fd in (firmware, log, reading):
        os.close(fd)
