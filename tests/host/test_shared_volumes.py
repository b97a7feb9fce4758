"""Volumes in files that virtual hosts share by NFS, whose clients remember for a while what they have seen last."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from laboratory.settings import GATEWAY
from tests.functional.guests import Guests, an_order
from tests.host.console import run_on_console
from tests.host.test_migration import shared_volume

LATEST = "/shared/latest"
WRITE = "dd if=/dev/zero of=/dev/vda bs=1M count=4 conv=fsync && touch /written & true"


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


def test_a_server_that_is_silent_holds_up_whose_disks_it_has_and_nobody_else(lab: Laboratory, guests: Guests) -> None:
    theirs, other, volume = guests.boot(_with(shared_volume(lab))), guests.boot(), shared_volume(lab)
    console = guests.client.get_serial_console(theirs.uuid)["path"]
    assert lab.file_server is not None
    with lab.file_server.silent():
        run_on_console(guests.node, console, WRITE)
        with pytest.raises(StorageError, match=r"the file system at /shared does not answer within 5 s"):
            guests.client.attach_volume(other.uuid, volume)
        guests.finish(guests.client.pause_instance(other.uuid))
        guests.finish(guests.client.unpause_instance(other.uuid))
        guests.boot()
        assert guests.client.get_host()["instances"] == 3
        assert guests.view(theirs.uuid).vm_state is VmState.ACTIVE
        assert "none" in run_on_console(guests.node, console, "cat /written || echo none")
    run_on_console(guests.node, console, "while ! cat /written; do sleep 0.1; done")
    guests.finish(guests.client.attach_volume(other.uuid, volume))


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
