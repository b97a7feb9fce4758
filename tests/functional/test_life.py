"""Every verb of an instance's life, over the queue, on real parts."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import msgspec

from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.state import PowerState, VmState
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, a_port, address_of, an_order, pings, until


def test_boot_reaches_user_space_and_the_network(guests: Guests) -> None:
    instance = guests.boot()
    until(lambda: pings(address_of(instance)))
    view = guests.view(instance.uuid)
    assert (view.vm_state, view.power_state, view.task, view.fault) == (
        VmState.ACTIVE,
        PowerState.RUNNING,
        None,
        None,
    )
    assert view.instance == with_named_devices(instance)
    assert view.machine is not None
    assert view.machine.type.startswith("pc-q35-")
    assert "[virt] hypervisor is auto" in view.machine.hypervisor_reason
    assert Path(f"/proc/{view.pid}/cmdline").read_bytes().count(instance.uuid.encode()) >= 1


def test_stop_asks_the_guest_and_start_brings_it_back(guests: Guests) -> None:
    instance = guests.boot()
    guests.finish(guests.client.stop_instance(instance.uuid, timeout=30))
    assert "GUEST POWER BUTTON" in guests.console(instance.uuid)
    view = guests.view(instance.uuid)
    assert (view.vm_state, view.power_state, view.pid) == (VmState.STOPPED, PowerState.SHUTDOWN, None)
    guests.finish(guests.client.start_instance(instance.uuid))
    guests.await_console(instance.uuid, "GUEST READY", times=2)
    until(lambda: pings(address_of(instance)))


def test_stop_forces_a_guest_that_does_not_listen(guests: Guests) -> None:
    instance = guests.boot(an_order(arguments="deaf"))
    began = time.monotonic()
    guests.finish(guests.client.stop_instance(instance.uuid, timeout=2))
    assert 2 <= time.monotonic() - began < 15
    assert guests.view(instance.uuid).vm_state is VmState.STOPPED


def test_soft_reboot_keeps_the_process_and_hard_reboot_makes_a_new_one(guests: Guests) -> None:
    instance = guests.boot()
    pid = guests.view(instance.uuid).pid
    guests.finish(guests.client.reboot_instance(instance.uuid, reboot_type="SOFT", timeout=30))
    guests.await_console(instance.uuid, "GUEST READY", times=2)
    assert guests.view(instance.uuid).pid == pid
    guests.finish(guests.client.reboot_instance(instance.uuid, reboot_type="HARD"))
    guests.await_console(instance.uuid, "GUEST READY", times=3)
    assert guests.view(instance.uuid).pid != pid
    until(lambda: pings(address_of(instance)))


def test_soft_reboot_resets_a_guest_that_does_not_listen(guests: Guests) -> None:
    instance = guests.boot(an_order(arguments="deaf"))
    guests.finish(guests.client.reboot_instance(instance.uuid, reboot_type="SOFT", timeout=1))
    guests.await_console(instance.uuid, "GUEST READY", times=2)


def test_pause_holds_the_guest_and_unpause_lets_it_go_on(guests: Guests) -> None:
    instance = guests.boot(an_order(arguments="counter"))
    until(lambda: guests.counter(instance.uuid) > 0)
    guests.finish(guests.client.pause_instance(instance.uuid))
    assert guests.view(instance.uuid).power_state is PowerState.PAUSED
    held = guests.counter(instance.uuid)
    time.sleep(1)  # five counts, if it ran
    assert guests.counter(instance.uuid) <= held + 1
    guests.finish(guests.client.unpause_instance(instance.uuid))
    until(lambda: guests.counter(instance.uuid) > held + 1)


def test_suspend_frees_the_memory_and_resume_goes_on_with_the_same_count(guests: Guests) -> None:
    instance = guests.boot(an_order(arguments="counter"))
    until(lambda: guests.counter(instance.uuid) >= 3)
    guests.finish(guests.client.suspend_instance(instance.uuid))
    view = guests.view(instance.uuid)
    assert (view.vm_state, view.power_state, view.pid) == (VmState.SUSPENDED, PowerState.SUSPENDED, None)
    held = guests.counter(instance.uuid)
    guests.finish(guests.client.resume_instance(instance.uuid))
    until(lambda: guests.counter(instance.uuid) > held)
    assert guests.console(instance.uuid).count("GUEST READY") == 1  # it never booted again
    counts = guests.counts(instance.uuid)
    assert counts == list(range(counts[0], counts[0] + len(counts)))
    until(lambda: pings(address_of(instance)))


def test_a_guest_that_powers_itself_off_is_stopped_and_can_be_started(guests: Guests) -> None:
    instance = guests.boot(an_order(arguments="poweroff_after=1"))
    until(lambda: guests.view(instance.uuid).vm_state is VmState.STOPPED)
    view = guests.view(instance.uuid)
    assert (view.power_state, view.fault) == (PowerState.SHUTDOWN, None)
    guests.finish(guests.client.start_instance(instance.uuid))
    guests.await_console(instance.uuid, "GUEST READY", times=2)


def test_terminate_removes_all_of_it(guests: Guests, node: Node, switch: Switch) -> None:
    instance = guests.boot(an_order(ports=2))
    pid = guests.view(instance.uuid).pid
    guests.finish(guests.client.terminate_instance(instance.uuid))
    assert guests.client.list_instances() == []
    assert not Path(f"/proc/{pid}").exists()
    assert switch.ports("br-int") == []
    assert not [path for path in node.directory.rglob("*") if instance.uuid in str(path)]


def test_several_disks_and_nics(guests: Guests) -> None:
    order = an_order(ports=3)
    instance = guests.boot(order)
    console = guests.console(instance.uuid)
    assert "NICS 3" in console
    assert "DISKS 2" in console  # the blank one and the config drive


def test_the_mtu_of_a_port_is_the_guests(guests: Guests) -> None:
    instance = guests.boot(msgspec.structs.replace(an_order(), ports=[a_port(mtu=1400)]))
    until(lambda: pings(address_of(instance)))
    assert "MTU eth0 1400" in guests.console(instance.uuid)


def test_diagnostics(guests: Guests) -> None:
    instance = guests.boot()
    diagnostics = guests.client.get_diagnostics(instance.uuid)
    assert diagnostics["state"] == "running"
    assert diagnostics["uptime"] > 0


def test_the_interactive_console(guests: Guests) -> None:
    instance = guests.boot()
    where = guests.client.get_serial_console(instance.uuid)
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(20)
        console.connect(str(where["path"]))
        console.sendall(b"echo typed-$((6*7))\n")
        heard = b""
        while b"typed-42" not in heard:
            heard += console.recv(4096)
    guests.await_console(instance.uuid, "typed-42")


def test_the_host_tells_what_it_is(guests: Guests, node: Node) -> None:
    guests.boot()
    host = guests.client.get_host()
    assert host["host"] == node.host
    assert host["instances"] == 1
    assert host["hypervisor"]["name"] == "qemu"
    assert host["hypervisor"]["accelerator"] in ("kvm", "tcg")
    assert host["hypervisor"]["unasked"]["hypervisor"] == "qemu"
    assert host["hypervisor"]["problems"].keys() == {"qemu", "vmm"}


def test_thirty_operations_on_several_instances_at_once(guests: Guests) -> None:
    orders = [an_order() for _ in range(3)]
    for accepted in [guests.client.build_and_run_instance(order) for order in orders]:
        guests.finish(accepted)
    pending = []
    for order in orders:
        for _ in range(5):
            pending.append(guests.client.pause_instance(order.uuid))
            pending.append(guests.client.unpause_instance(order.uuid))
    for accepted in pending:
        guests.finish(accepted)
    assert {view.vm_state for view in guests.client.list_instances()} == {VmState.ACTIVE}
