"""What a guest's owner sees of its life is the same whatever runs it. Its kernel is an ELF file here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.state import PowerState, VmState
from laboratory.host import VirtualHost
from sandbox import images
from tests.functional.guests import BOOT_SECONDS, Guests, address_of, an_order, halting_image, source, until


def test_a_guest_lives_alike(host: VirtualHost, any_guests: Guests) -> None:
    guests = any_guests
    guest = guests.boot(_order())
    view = guests.view(guest.uuid)
    wanted = guest.flavor.extra_specs["hw:hypervisor"]
    assert view.machine is not None
    assert (view.machine.hypervisor, wanted in view.machine.hypervisor_reason) == (wanted, True)
    assert "DISKS 2" in guests.console(guest.uuid)
    until(lambda: _pings(host, address_of(guest)), BOOT_SECONDS)
    guests.finish(guests.client.pause_instance(guest.uuid))
    assert guests.view(guest.uuid).power_state is PowerState.PAUSED
    guests.finish(guests.client.unpause_instance(guest.uuid))
    held = guests.counter(guest.uuid)
    until(lambda: guests.counter(guest.uuid) > held, BOOT_SECONDS)
    guests.finish(guests.client.suspend_instance(guest.uuid))
    assert guests.view(guest.uuid).pid is None
    guests.finish(guests.client.resume_instance(guest.uuid))
    held = guests.counter(guest.uuid)
    until(lambda: guests.counter(guest.uuid) > held, BOOT_SECONDS)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=60))
    assert "GUEST POWER BUTTON" in guests.console(guest.uuid)
    assert guests.view(guest.uuid).vm_state is VmState.STOPPED
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)


def test_where_nobody_chooses_what_is_booted_decides(unasked_guests: Guests, sources: Path) -> None:
    guests = unasked_guests
    disk = BlockDevice(source_type="image", image=halting_image(sources / "halted.raw"), size_gb=1)
    order = an_order(direct_boot=None, block_devices=[disk])
    guests.finish(guests.client.build_and_run_instance(order))
    for instance, hypervisor in ((guests.boot(), "vmm"), (order, "qemu")):
        machine = guests.view(instance.uuid).machine
        assert machine is not None
        assert (machine.hypervisor, "[virt] hypervisor is auto" in machine.hypervisor_reason) == (hypervisor, True)


def _order() -> Instance:
    order = an_order(arguments="counter", flavor=Flavor(vcpus=1, memory_mb=192))
    assert order.direct_boot is not None
    boot = msgspec.structs.replace(order.direct_boot, kernel=source(images.elf_kernel()))
    return msgspec.structs.replace(order, direct_boot=boot)


def _pings(host: VirtualHost, address: str) -> bool:
    return " 1 received" in host.run("sh", "-c", f"ping -c 1 -W 2 {address} || true")
