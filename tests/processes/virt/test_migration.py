"""A guest's way out of one QEMU and into another, on real QEMU; both are of this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import MigrationRefused, MonitorError
from compute_agent.host import page_faults
from compute_agent.host.cpu import Processor
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import Guest, StartRequest
from compute_agent.virt.kvm.capabilities import KvmCapabilities
from compute_agent.virt.migration import Pace
from compute_agent.virt.process.compatibility import require_features
from compute_agent.virt.qemu.accelerator import Accelerator
from compute_agent.virt.qemu.capabilities import Capabilities
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.qemu.migration.compatibility import facts_of, require_compatible, require_post_copy
from compute_agent.virt.settings import VirtSettings
from tests.processes.virt.conftest import UUID, MakeHypervisor, end_all, tiny_request
from tests.unit.virt.waiting import start_up, until

KEY = "ab" * 32
PROMPT = Pace(downtime=1.0)


@pytest.fixture
def request_(hypervisor: QemuHypervisor, directory: Path) -> StartRequest:
    """With a disk of its own."""
    request, path = tiny_request(hypervisor, directory), directory / "disk.qcow2"
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(directory / "disk.raw"), str(path))
    return replace(request, disks=[qcow2_disk(request.disks[0], path)])


def qcow2_disk(disk: Disk, path: Path) -> Disk:
    return replace(disk, source=FileSource(path=path, format="qcow2"))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def there(settings: VirtSettings, request_: StartRequest, directory: Path) -> Iterator[Guest]:
    """A process that waits for the guest, with an empty disk."""
    path, size = directory / "there.qcow2", (directory / "disk.raw").stat().st_size
    _run("qemu-img", "create", "-f", "qcow2", str(path), str(size))
    with waiting(settings, replace(request_, disks=[qcow2_disk(request_.disks[0], path)])) as guest:
        yield guest


@contextmanager
def waiting(settings: VirtSettings, request: StartRequest) -> Iterator[Guest]:
    """A process of another agent's waits for the guest that is asked for."""
    other = replace(
        settings, state_dir=settings.state_dir.with_name("state2"), run_dir=settings.run_dir.with_name("run2")
    )
    hypervisor = QemuHypervisor(other, lambda exited: None)
    try:
        yield hypervisor.start(replace(request, is_incoming=True))
    finally:
        end_all(hypervisor)


@dataclass
class Sides:
    """The same guest on two hosts; of its disk there is nothing to be seen yet on the other."""

    here: StartRequest
    there: StartRequest
    disks: tuple[str, ...]
    """What qemu-img has to be told to compare them."""

    def assert_same(self) -> None:
        """When nobody has them open."""
        assert "identical" in _run("qemu-img", "compare", *self.disks)


def with_layers(request: StartRequest, directory: Path) -> Sides:
    """Its disk has layers; what the newest stands on is there, too, for nobody writes to it."""
    lower, size = directory / "disk.qcow2", str((directory / "disk.raw").stat().st_size)
    newest = [directory / f"newest-{side}.qcow2" for side in ("here", "there")]
    for path in newest:
        _run("qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", str(lower), str(path), size)
    _run("qemu-io", "-f", "qcow2", "-c", "write -P 9 128k 64k", str(newest[0]))
    first, (disk,) = FileSource(path=lower, format="qcow2"), request.disks
    sources = [FileSource(path=path, format="qcow2", backing=first, layer=UUID) for path in newest]
    here, there = (replace(request, disks=[replace(disk, source=source)]) for source in sources)
    return Sides(here, there, tuple(map(str, newest)))


def begin(here: Guest, there: Guest, key: str | None = KEY) -> None:
    """As two agents do, with memory and a disk; `key`: what the source believes it to be."""
    with socket.create_server(("127.0.0.1", 0)) as disks, socket.create_server(("127.0.0.1", 0)) as memory:
        there.incoming.use_key(KEY)
        there.incoming.let_disks_in(disks.fileno(), ["disk0"])
        with socket.create_connection(memory.getsockname()) as memory_out, memory.accept()[0] as memory_in:
            there.incoming.let_memory_in(memory_in.fileno())
            with closing(socket.create_connection(disks.getsockname())) as disk:
                target = NbdSource(export="disk0", fd=disk.fileno())
                here.outgoing.begin(memory_out.fileno(), {"disk0": target}, PROMPT, key)


def carry(here: Guest) -> None:
    """To its end."""
    until(lambda: here.outgoing.advance(1.0).stage == "complete")


def move_and_end(here: Guest, there: Guest) -> None:
    """All of it has come, and neither process is there any more."""
    begin(here, there)
    carry(here)
    until(there.incoming.is_complete)
    there.incoming.shut_disks()
    here.kill()
    there.kill()


def test_a_guest_goes_on_in_another_process_with_its_disk(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest, directory: Path
) -> None:
    here = start_up(make_hypervisor(), request_)
    begin(here, there)
    carry(here)
    until(there.incoming.is_complete)
    assert (here.status(), there.status()) == (PowerState.PAUSED, PowerState.PAUSED), "nobody has let it run yet"
    there.incoming.shut_disks()
    there.incoming.shut_disks()
    there.resume()
    there.incoming.announce()
    assert there.status() is PowerState.RUNNING
    here.kill()
    there.kill()
    same = _run("qemu-img", "compare", str(directory / "disk.qcow2"), str(directory / "there.qcow2"))
    assert "identical" in same


def test_of_a_disk_with_layers_the_newest_is_copied_onto_what_is_there(
    make_hypervisor: MakeHypervisor, settings: VirtSettings, request_: StartRequest, directory: Path
) -> None:
    sides = with_layers(request_, directory)
    here = start_up(make_hypervisor(), sides.here)
    with waiting(settings, sides.there) as there:
        move_and_end(here, there)
    sides.assert_same()
    said = json.loads(_run("qemu-img", "map", "--output=json", sides.disks[1]))
    assert [part["start"] for part in said if part["depth"] == 0], "it is in the newest there, too"
    assert not any(part["depth"] == 0 and part["length"] > 1024**2 for part in said), "all of the disk was copied"


@pytest.mark.parametrize("key", ["cd" * 32, None])
def test_who_does_not_know_the_key_gets_nothing_in(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest, key: str | None
) -> None:
    here = start_up(make_hypervisor(), request_)
    with pytest.raises(MonitorError):
        begin(here, there, key)
    here.outgoing.cancel()
    assert here.status() is PowerState.RUNNING
    assert not there.incoming.is_complete()


def test_the_next_agent_goes_on_with_it(make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest) -> None:
    begin(start_up(make_hypervisor(), request_), there)
    adopted = make_hypervisor().adopt(UUID)
    assert adopted is not None
    carry(adopted)
    adopted = make_hypervisor().adopt(UUID)
    assert adopted is not None
    assert adopted.outgoing.advance(0).stage == "complete"
    until(there.incoming.is_complete)


def test_a_guest_that_was_carried_and_is_not_wanted_there_goes_on_and_can_be_saved(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest, directory: Path
) -> None:
    here = start_up(make_hypervisor(), request_)
    begin(here, there)
    carry(here)
    there.kill()
    here.outgoing.cancel()
    here.resume()
    assert here.status() is PowerState.RUNNING
    with pytest.raises(MonitorError, match="copies nothing"):
        here.outgoing.advance(0)
    here.pause()
    here.save(directory / "memory")


def test_one_that_is_cancelled_leaves_nothing_and_may_be_tried_again(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest
) -> None:
    here = start_up(make_hypervisor(), request_)
    here.outgoing.cancel()
    begin(here, there)
    here.outgoing.cancel()
    here.outgoing.cancel()
    assert here.status() is PowerState.RUNNING
    with pytest.raises(MonitorError):
        here.outgoing.advance(0)


def test_a_destination_that_dies_is_an_error_and_the_guest_goes_on(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest
) -> None:
    here = start_up(make_hypervisor(), request_)
    begin(here, there)
    there.kill()
    with pytest.raises(MonitorError):
        carry(here)
    here.outgoing.cancel()
    assert here.status() is PowerState.RUNNING


def test_a_destination_that_does_not_answer_holds_nothing_up(
    make_hypervisor: MakeHypervisor, request_: StartRequest, there: Guest
) -> None:
    here = start_up(make_hypervisor(), request_)
    begin(here, there)
    os.kill(there.pid, signal.SIGSTOP)
    try:
        here.outgoing.cancel()
        assert here.status() is PowerState.RUNNING
        with pytest.raises(MonitorError):
            here.outgoing.advance(0)
    finally:
        os.kill(there.pid, signal.SIGCONT)


MACHINE = Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator="kvm", cpu="host", slots={})
FACTS = HostFacts(hypervisor_version="7.2.4", accelerator="kvm", cpu_vendor="AMD", cpu_flags=["avx", "sse2"])
FOUND = Capabilities(
    version="7.2.4",
    machine_type="pc-q35-7.2",
    machine_types=frozenset({"pc-q35-7.1", "pc-q35-7.2"}),
    accelerator=Accelerator("kvm", "it works"),
    kvm=KvmCapabilities(
        module=None, cpu_vendor="AMD", cpu_model=None, nested_paging=None, nested_guests=None, missing={}
    ),
)
CPU = Processor(vendor="AMD", model="EPYC", flags=frozenset({"avx", "sse2", "svm"}))


def test_a_host_that_has_all_that_the_guest_has_seen_takes_it() -> None:
    require_compatible(MACHINE, FACTS, FOUND, CPU)


def test_a_guest_that_does_not_run_needs_nothing_but_its_machine() -> None:
    require_compatible(MACHINE, None, FOUND, Processor(vendor="Intel", model="Xeon", flags=frozenset()))
    with pytest.raises(MigrationRefused, match="machine type"):
        require_compatible(msgspec.structs.replace(MACHINE, type="pc-q35-9.0"), None, FOUND, CPU)


@pytest.mark.parametrize(
    ("machine", "facts", "reason"),
    [
        ({"type": "pc-q35-9.0"}, {}, "machine type: QEMU 7.2.4 here knows no pc-q35-9.0"),
        ({"accelerator": "tcg"}, {}, "accelerator: tcg is needed, here is kvm"),
        ({}, {"hypervisor_version": "8.0.0"}, "hypervisor version: 7.2.4 here is older"),
        ({}, {"cpu_vendor": "Intel"}, "cpu vendor: Intel is needed, here is AMD"),
        ({}, {"cpu_flags": ["avx", "avx512f", "hypervisor"]}, "cpu features: missing here: avx512f$"),
    ],
)
def test_what_is_missing_is_named(machine: dict[str, str], facts: dict[str, object], reason: str) -> None:

    with pytest.raises(MigrationRefused, match=reason):
        require_compatible(
            msgspec.structs.replace(MACHINE, **machine), msgspec.structs.replace(FACTS, **facts), FOUND, CPU
        )


def test_one_whose_cpu_was_chosen_needs_what_it_has_seen_and_no_more() -> None:
    seen = msgspec.structs.replace(FACTS, cpu_features=["avx", "sse2"], cpu_flags=["amx_tile"])
    require_compatible(MACHINE, seen, FOUND, CPU)
    require_features(seen.cpu_features, ["avx", "sse2", "svm"])
    with pytest.raises(MigrationRefused, match=r"cpu features: missing here: avx$"):
        require_features(seen.cpu_features, ["sse2"])


def test_a_guest_of_emulated_cpus_does_not_move() -> None:
    with pytest.raises(MigrationRefused, match="accelerator: tcg loses"):
        facts_of(Machine(hypervisor="qemu", type="t", accelerator="tcg", cpu="max", slots={}), FOUND)


def test_a_host_whose_kernel_does_not_ask_for_pages_refuses_post_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_faults, "find_problem", lambda *, privileged: None if privileged else "it is off")
    require_post_copy(privileged=True)
    with pytest.raises(MigrationRefused, match="post-copy: it is off"):
        require_post_copy(privileged=False)
