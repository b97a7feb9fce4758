"""Volumes in files that virtual hosts share by NFS, whose clients remember for a while what they have seen last."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from compute_agent.instance.model import Instance
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from laboratory.settings import GATEWAY
from tests.functional.guests import Guests, an_order
from tests.host.test_migration import shared_volume

LATEST = "/shared/latest"


def test_a_volume_is_its_writers_on_all_hosts_at_once(lab: Laboratory, guests: Guests, other_guests: Guests) -> None:
    volume = shared_volume(lab)
    former = other_guests.boot(_with(volume))
    other_guests.finish(other_guests.client.terminate_instance(former.uuid))  # that host knows that it is nobody's
    writer = guests.boot(_with(volume))
    refused = other_guests.fail(other_guests.client.build_and_run_instance(other_guests.wished(_with(volume))))
    assert refused.fault is not None
    assert f"in use by {guests.node.name}, instance {writer.uuid}" in refused.fault.message
    guests.finish(guests.client.terminate_instance(writer.uuid))
    other_guests.boot(_with(volume))


@pytest.fixture
def latest(lab: Laboratory, host: VirtualHost) -> Iterator[BlockDevice]:
    """A volume that the host reaches by NFS 4.2."""
    volume = shared_volume(lab)
    host.run("mkdir", LATEST)
    host.run("mount", "-t", "nfs4", "-o", "vers=4.2", f"{GATEWAY}:/shared", LATEST)
    data = FileVolume(path=f"{LATEST}/{volume.volume_id}", format="qcow2")
    yield msgspec.structs.replace(volume, connection_info=FileConnection(data=data))
    host.run("umount", LATEST)
    host.run("rmdir", LATEST)


def test_a_volume_that_guests_could_not_write_to_is_refused(latest: BlockDevice, guests: Guests) -> None:
    with pytest.raises(InvalidMessage, match=rf"connection_info\.data\.path.*{LATEST}.*NFS 4\.2.*vers=4\.1"):
        guests.client.build_and_run_instance(_with(latest))
    assert guests.client.list_instances() == []


def _with(volume: BlockDevice) -> Instance:
    return an_order(ports=0, config_drive=False, block_devices=[volume])
