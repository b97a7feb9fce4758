"""The lab itself: hosts that run commands, reach each other, and boot guests under KVM."""

from __future__ import annotations

import pytest

from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from laboratory.settings import guests_address
from sandbox.commands import SandboxError
from tests.functional.guests import Guests


def test_each_host_has_a_name_and_a_kernel_of_its_own(lab: Laboratory) -> None:
    for host in lab.hosts:
        assert host.run("hostname") == f"{host.name}\n"
    boot_ids = {host.run("cat", "/proc/sys/kernel/random/boot_id") for host in lab.hosts}
    assert len(boot_ids) == len(lab.hosts)


def test_a_command_that_fails_is_an_error_with_all_that_it_wrote(host: VirtualHost) -> None:
    with pytest.raises(SandboxError, match=r"(?s)exit status 7\n.*to stdout\n.*to stderr\n"):
        host.run("sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")


def test_a_command_reads_stdin_and_words_stay_words(host: VirtualHost) -> None:
    assert host.run("cat", stdin="a\nb") == "a\nb"
    assert host.run("printf", "%s\n", "two words", "$HOME", "") == "two words\n$HOME\n\n"


def test_hosts_reach_each_other_with_large_packets(host: VirtualHost, other_host: VirtualHost) -> None:
    host.run("ping", "-c", "1", "-M", "do", "-s", "8972", other_host.address)


def test_their_switches_pass_full_size_packets_on(host: VirtualHost) -> None:
    host.run("ping", "-c", "1", "-M", "do", "-s", "1472", guests_address(2))


def test_the_switch_has_the_kernels_datapath(host: VirtualHost) -> None:
    assert host.run("ovs-dpctl", "show").startswith("system@ovs-system")


def test_a_guest_runs_under_kvm(host: VirtualHost, guests: Guests) -> None:
    assert host.client.get_host()["hypervisor"]["accelerator"] == "kvm"
    guest = guests.boot()
    assert host.client.get_diagnostics(guest.uuid)["kvm"] is True
    descriptors = host.run("sh", "-c", f"readlink /proc/{guests.view(guest.uuid).pid}/fd/*").splitlines()
    assert {"/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"} <= set(descriptors)
