"""`devstack/lab` as a person uses it: a lab of its own, in namespaces of its own, of which nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from laboratory import image

LAB = Path(__file__).parents[2] / "devstack/lab"
KEEPER = "-m laboratory.keeper"
UP_SECONDS = 300.0


@pytest.fixture(scope="module", autouse=True)
def environment(directory: Path) -> Iterator[None]:
    """Not the lab that a person may have on this machine; and images, because this one cannot reach the internet."""
    image.kernel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPUTE_AGENT_LAB", str(directory / "lab.json"))
        patch.setenv("PYTHON", sys.executable)
        patch.setenv("TMPDIR", str(directory))
        yield


def lab(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command, to its end."""
    return subprocess.run([LAB, *arguments], input=stdin, capture_output=True, text=True, timeout=UP_SECONDS)


def left(directory: Path) -> list[str]:
    """Files and processes of sandboxes made below `directory`."""
    ours = [words for words in command_lines().values() if f"{directory}/sb-" in words or KEEPER in words]
    return [*ours, *(str(path) for path in directory.glob("sb-*"))]


def command_lines() -> dict[int, str]:
    """Of all processes, by their id."""
    listed = subprocess.run(["ps", "-e", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return {int(pid): words for pid, _, words in (line.strip().partition(" ") for line in listed.splitlines())}


def test_it_comes_up_runs_commands_and_goes_down(directory: Path) -> None:
    up = lab("up", "1", "--append", "lab_test=1", "--qemu", "-device virtio-balloon-pci")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "host1: its agent serves" in up.stdout
    try:
        _look_around()
    finally:
        assert lab("down").returncode == 0
    assert left(directory) == []


def _look_around() -> None:
    assert "host1: 10.78.0.11, up, its agent runs" in lab("status").stdout
    ran = lab("run", "host1", "sh", "-c", "cat; echo wrong >&2; exit 7", stdin="given")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "given", "wrong\n")
    assert "lab_test=1" in lab("run", "host1", "cat", "/proc/cmdline").stdout
    assert "0x1002" in lab("run", "host1", "sh", "-c", "cat /sys/bus/pci/devices/*/device").stdout
    _talk_on_the_console()
    assert "hypervisor" in lab("shell", stdin="computectl --host host1 --rpc-timeout 60 host show\n").stdout
    again = lab("up")
    assert (again.returncode, again.stderr) == (1, "lab: a lab is up already; `lab down` takes it down\n")
    unknown = lab("run", "host2", "true")
    assert (unknown.returncode, unknown.stderr) == (1, "lab: no host 'host2'; there are host1\n")


def _talk_on_the_console() -> None:
    command = [LAB, "console", "host1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as console:
        assert console.stdin is not None and console.stdout is not None
        print("\necho product: $((6 * 7))", file=console.stdin, flush=True)
        assert any("product: 42" in line for line in console.stdout)
        console.stdin.close()


def test_nothing_is_left_when_its_keeper_is_killed_while_it_starts(directory: Path) -> None:
    with subprocess.Popen([LAB, "up", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert any("broker: " in line for line in up.stdout)
        (keeper,) = (pid for pid, words in command_lines().items() if words.startswith(f"{sys.executable} {KEEPER}"))
        os.kill(keeper, signal.SIGKILL)
        _, errors = up.communicate(timeout=UP_SECONDS)
    assert up.returncode == 1
    assert errors == "lab: the process that keeps the lab has ended\n"
    assert left(directory) == []


def test_without_a_lab_every_command_says_so() -> None:
    for command in (["down"], ["status"], ["shell"], ["console", "host1"], ["run", "host1", "true"]):
        ended = lab(*command)
        assert (ended.returncode, ended.stderr) == (1, "lab: no lab is up; `lab up` starts one\n")


def test_what_cannot_be_is_refused_before_anything_starts() -> None:
    assert lab("up", "10").stderr == "lab: 10 hosts: it can be 1 to 9\n"
    assert "memory: the hosts need 200000000 MiB" in lab("up", "2", "--memory", "100000000").stderr
