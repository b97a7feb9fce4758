"""The files that a host finds when it boots."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from laboratory import image
from laboratory.settings import GATEWAY, MTU, Site, guests_address, host_address, host_name
from sandbox.images import cache_directory

_AGENT = """\
[DEFAULT]
host = {host}
transport_url = {transport_url}

[agent]
cpu_allocation_ratio = 4

[storage]
image_sources = {image_sources}
volume_dirs = {volume_dirs}

[ceph]
{ceph}

{more}
"""


def write_files(site: Site, number: int, ready_port: int) -> None:
    """``settings``, which its shells read, and the agent's configuration, into the host's directory."""
    directory = site.directory / host_name(number)
    directory.mkdir(exist_ok=True)
    settings = _settings(site, number) | {"READY_PORT": str(ready_port)}
    (directory / "settings").write_text("".join(f"{name}={shlex.quote(text)}\n" for name, text in settings.items()))
    sources = f"{cache_directory()},/shared" if site.shared else str(cache_directory())
    configuration = _AGENT.format(
        host=host_name(number),
        transport_url=site.transport_url,
        image_sources=sources,
        volume_dirs="/shared" if site.shared else "",
        ceph=site.ceph,
        more=site.settings.agent_options,
    )
    (directory / "compute-agent.conf").write_text(configuration)


def _settings(site: Site, number: int) -> dict[str, str]:
    everyone = range(1, site.hosts + 1)
    return {
        "NAME": host_name(number),
        "ADDRESS": host_address(number),
        "GUESTS_ADDRESS": guests_address(number),
        "GATEWAY": GATEWAY,
        "MTU": str(MTU),
        "HOSTS_FILE": "".join(f"{host_address(each)} {host_name(each)}\n" for each in everyone),
        "TUNNELS": " ".join(_tunnel(other) for other in everyone if other != number),
        "MODULES": str(image.modules()),
        "SHARED": "yes" if site.shared else "",
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}:/usr/sbin:/sbin",
    }


def _tunnel(other: int) -> str:
    """For ovs-vsctl. Protected ports pass nothing on to each other, so that a full mesh has no loop."""
    name = f"vxlan-{host_name(other)}"
    return (
        f"-- add-port br-int {name} -- set port {name} other_config:protected=true"
        f" -- set interface {name} type=vxlan options:remote_ip={host_address(other)}"
    )
