"""computectl doctor on a host with all that the kernel has."""

from __future__ import annotations

import json
import re

from laboratory.host import VirtualHost

SECONDS = 120


def examine(host: VirtualHost) -> dict[str, dict[str, str]]:
    """The findings of the host by their checks."""
    report = host.run("sh", "-c", "computectl doctor -f json || true", seconds=SECONDS)
    return {line["check"]: line for line in json.loads(report)}


def test_what_the_kernel_has_is_found(host: VirtualHost) -> None:
    lines = examine(host)
    for check in (
        *("configuration", "kernel", "isolation", "cgroup", "kvm", "qemu", "tun", "vhost-net", "kernel-tls"),
        *("openvswitch", "datapath", "broker", "broker-rights", "broker-queues"),
        *("agent.state_dir", "virt.state_dir", "virt.run_dir", "storage.disk_dir", "storage.image_dir"),
        *("image_sources", "qemu-img"),
    ):
        assert lines[check]["status"] == "ok", lines[check]
    assert lines["datapath"]["found"] == "br-int is in the kernel"
    assert "kvm_amd, NPT" in lines["kvm"]["found"]
    assert re.search(r"an exit takes [\d.]+ us", lines["kvm"]["found"])
    assert "under KVM" in lines["qemu"]["found"]


def test_what_is_taken_away_is_missed(host: VirtualHost) -> None:
    host.run("mv", "/dev/vhost-net", "/dev/vhost-net.away")
    host.run("mv", "/dev/kvm", "/dev/kvm.away")
    try:
        lines = examine(host)
    finally:
        host.run("mv", "/dev/vhost-net.away", "/dev/vhost-net")
        host.run("mv", "/dev/kvm.away", "/dev/kvm")
    assert (lines["vhost-net"]["status"], "modprobe vhost_net" in lines["vhost-net"]["remedy"]) == ("warning", True)
    assert lines["kvm"]["status"] == lines["qemu"]["status"] == "failure"
