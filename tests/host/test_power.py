"""A host loses its power. Last of all tests: the broker takes a while to see that the agent is not the old one."""

from __future__ import annotations

from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from laboratory.host import VirtualHost
from laboratory.settings import guests_address
from tests.functional.guests import BOOT_SECONDS, Guests, address_of, an_order, until


def test_a_host_whose_power_is_cut_comes_up_with_its_state_and_its_guests(
    host: VirtualHost, other_host: VirtualHost
) -> None:
    guests = Guests(other_host, "qemu")
    ran, stopped = guests.boot(an_order(ports=1)), guests.boot(an_order(ports=0))
    guests.finish(guests.client.stop_instance(stopped.uuid, timeout=0))
    other_host.run("touch", "/var/lib/compute-agent/mark", "/mark")
    other_host.run("sync")
    other_host.kill()
    other_host.start()
    other_host.start_agent()
    other_host.run("test", "-e", "/var/lib/compute-agent/mark", "-a", "!", "-e", "/mark")
    host.run("ping", "-c", "1", "-w", "30", guests_address(2))  # its switch has another MAC address than before
    until(lambda: guests.view(ran.uuid).power_state is PowerState.RUNNING, BOOT_SECONDS)
    until(lambda: guests.view(ran.uuid).task is None, BOOT_SECONDS)
    (last, *_) = guests.client.list_operations(ran.uuid)
    assert (last.operation, last.state) == ("host_boot", OperationState.DONE), last
    until(lambda: other_host.reaches(address_of(ran)), BOOT_SECONDS)
    assert guests.view(stopped.uuid).vm_state is VmState.STOPPED
    guests.terminate_all()
