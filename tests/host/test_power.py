"""A host loses its power. Last of all tests: the broker takes a while to see that the agent is not the old one."""

from __future__ import annotations

from laboratory.host import VirtualHost
from laboratory.settings import guests_address


def test_a_host_whose_power_is_cut_comes_up_with_its_state(host: VirtualHost, other_host: VirtualHost) -> None:
    other_host.run("touch", "/var/lib/compute-agent/mark", "/mark")
    other_host.run("sync")
    other_host.kill()
    other_host.start()
    other_host.start_agent()
    other_host.run("test", "-e", "/var/lib/compute-agent/mark", "-a", "!", "-e", "/mark")
    assert other_host.client.list_instances() == []
    host.run("ping", "-c", "1", "-w", "30", guests_address(2))  # its switch has another MAC address than before
