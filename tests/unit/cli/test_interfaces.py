"""Ports that come and go, on the command line: what is sent."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.conftest import REQUEST, WEB1, Shell

PORT = "6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a4"


def test_a_port_is_sent_as_it_was_described(shell: Shell) -> None:
    described = f"id={PORT},mac=fa:16:3e:00:00:07,bridge=br-ex,vlan=7,mtu=1450"
    assert shell("interface", "attach", "web1", described, "--request-id", REQUEST).status == 0
    ((verb, sent),) = shell.client.requests
    port = sent.pop("port")
    assert (verb, sent) == ("attach_interface", {"instance_uuid": WEB1, "request_id": REQUEST})
    assert (port.id, port.mac_address, port.mtu) == (PORT, "fa:16:3e:00:00:07", 1450)
    assert (port.details.bridge_name, port.details.vlan) == ("br-ex", 7)


def test_what_is_not_said_follows_from_the_request_and_is_the_same_again(shell: Shell) -> None:
    for _ in range(2):
        assert shell("interface", "attach", "web1", "--request-id", REQUEST).status == 0
    first, second = (sent["port"] for _, sent in shell.client.requests)
    assert first == second
    assert first.details.bridge_name == "br-int"
    assert re.fullmatch("fa:16:3e(:[0-9a-f]{2}){3}", first.mac_address)


@pytest.mark.parametrize(("described", "named"), [("mtu=9", "mtu"), ("mac=none", "mac_address")])
def test_a_port_that_cannot_be_is_not_sent(shell: Shell, described: str, named: str) -> None:
    run = shell("interface", "attach", "web1", described)
    assert run.status == 2
    assert named in run.stderr
    assert shell.client.requests == []


def test_a_port_is_detached_by_its_id(shell: Shell) -> None:
    assert shell("interface", "detach", "web1", PORT, "--request-id", REQUEST).status == 0
    sent = {"instance_uuid": WEB1, "port_id": PORT, "request_id": REQUEST}
    assert shell.client.requests == [("detach_interface", sent)]
    assert shell("interface", "detach", "web1", "eth1").status == 2
