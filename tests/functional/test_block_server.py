"""A block server with real images, qcow2 and in Ceph: read and written from outside, found again, ended, killed."""

from __future__ import annotations

import base64
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.credentials import Credentials
from compute_agent.storage.server.exports import Export, FileExport, RbdExport, Transport
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.server.settings import BLOCK_SERVER_UIDS, BlockServerSettings
from sandbox.ceph import Ceph
from sandbox.ceph_files import new_key
from tests.functional.writing_guest import (
    COPY,
    SECTOR,
    boot_sector,
    make_disk,
    says_over_nbd,
    says_over_vhost_user,
)

UUID = "0d5a8f0e-58c4-4f0f-9a43-6f0d1c1f9a01"
MIB = 1 << 20
USERS = range(first := 1_950_000_000 + os.getpid() % 1000 * BLOCK_SERVER_UIDS, first + BLOCK_SERVER_UIDS)
"""Nobody else's, though tests may run beside each other."""

MakeServers = Callable[..., BlockServers]
MakeExport = Callable[..., Export]


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    with Ceph(directory / "bs-ceph", store="bluestore") as ceph:
        yield ceph


@pytest.fixture
def run_dir(directory: Path) -> Path:
    return directory / uuid.uuid4().hex[:8]


@pytest.fixture
def ended() -> Queue[str]:
    """The instances whose servers have ended unasked."""
    return Queue()


@pytest.fixture
def make_servers(run_dir: Path, ended: Queue[str]) -> Iterator[MakeServers]:
    """Each call is another life of the agent; after the last one, nothing may be left."""
    lives: list[BlockServers] = []

    def make(**changes: float) -> BlockServers:
        if lives:
            lives[-1].close()
        settings = BlockServerSettings(run_dir=run_dir, uid_base=USERS.start, **changes)  # type: ignore[arg-type]
        lives.append(BlockServers(settings, ended.put))
        return lives[-1]

    yield make
    for instance_uuid in lives[-1].inspect():
        lives[-1].stop(instance_uuid)
    lives[-1].close()
    assert processes() == []
    assert [entry.name for entry in run_dir.iterdir()] == ["fork-server.lock"]


@pytest.fixture
def servers(make_servers: MakeServers) -> BlockServers:
    return make_servers()


@pytest.fixture
def rbd(ceph: Ceph) -> MakeExport:
    """Makes an image in Ceph with a guest that writes, and says how to serve it."""

    def make(**changes: object) -> Export:
        image = f"volume-{uuid.uuid4()}"
        file = make_disk(ceph.conf_dir / "disk.raw")
        ceph.rbd("import", str(file), f"{ceph.pool}/{image}")
        credentials = Credentials(conf=ceph.conf, key=ceph.key)
        common = {"name": "disk0", "pool": ceph.pool, "image": image, "user": ceph.user, "credentials": credentials}
        return RbdExport(**common | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def qcow2(tmp_path: Path) -> MakeExport:
    """The same for a qcow2 overlay of such a disk, both closed to others."""

    def make(**changes: object) -> Export:
        base, overlay = make_disk(tmp_path / "base.raw"), tmp_path / "overlay.qcow2"
        outside("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
        for file in (base, overlay):
            file.chmod(0o600)
        source = FileSource(path=overlay, format="qcow2", backing=FileSource(path=base, format="raw"))
        return FileExport(**{"name": "disk0", "source": source} | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(params=["qcow2", "rbd"])
def make_export(request: pytest.FixtureRequest) -> MakeExport:
    make: MakeExport = request.getfixturevalue(request.param)
    return make


def outside(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def through(run_dir: Path, command: str, export: str = "disk0") -> str:
    """What qemu-io makes of a command, through the server's socket."""
    return outside("qemu-io", "-f", "raw", "-c", command, f"nbd+unix:///{export}?socket={run_dir}/{UUID}/nbd.sock")


def client_of(run_dir: Path) -> subprocess.Popen[str]:
    """A qemu-io that stays connected to disk0, and takes commands."""
    return subprocess.Popen(
        ["qemu-io", "-f", "raw", f"nbd+unix:///disk0?socket={run_dir}/{UUID}/nbd.sock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def size_of(run_dir: Path, export: str) -> str:
    return through(run_dir, "length", export).strip()


def content_of(export: Export, ceph: Ceph, tmp_path: Path) -> bytes:
    """The disk as another finds it when it is not served."""
    if isinstance(export, RbdExport):
        ceph.rbd("export", f"{export.pool}/{export.image}", str(tmp_path / "content"))
    elif isinstance(export, FileExport):
        outside("qemu-img", "convert", "-O", "raw", export.source.path, tmp_path / "content")
    return (tmp_path / "content").read_bytes()


def processes() -> list[int]:
    """Of the users that these block servers have."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if entry.stat().st_uid in USERS and runs(entry)]


def runs(process: Path) -> bool:
    """An agent that is really dead does not keep a child's exit status, as this process does."""
    return "State:\tZ" not in (process / "status").read_text()


def the_process() -> int:
    (pid,) = processes()
    return pid


@pytest.mark.parametrize("transport", ["nbd", "vhost-user-blk"])
def test_guest_boots_and_writes(
    transport: Transport, make_export: MakeExport, servers: BlockServers, ceph: Ceph, tmp_path: Path
) -> None:
    export = make_export(transport=transport)
    servers.add(UUID, export)
    if transport == "nbd":
        source = servers.connect(UUID, "disk0")
        said = says_over_nbd(source)
        source.close()
    else:
        served = servers.connect_vhost_user(UUID, "disk0")
        said = says_over_vhost_user(served)
        served.close()
    assert said == "w"
    servers.remove(UUID, "disk0")
    assert content_of(export, ceph, tmp_path)[COPY : COPY + SECTOR] == boot_sector()


def test_read_only_disk_is_read_only(make_export: MakeExport, servers: BlockServers, run_dir: Path) -> None:
    servers.add(UUID, make_export(read_only=True))
    address = f"nbd+unix:///disk0?socket={run_dir}/{UUID}/nbd.sock"
    assert "read 512/512" in outside("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 512 512", address)
    with pytest.raises(subprocess.CalledProcessError):
        through(run_dir, "write 0 512")


def test_next_agent_finds_the_server(
    make_servers: MakeServers, make_export: MakeExport, run_dir: Path, rbd: MakeExport
) -> None:
    export = make_export()
    make_servers().add(UUID, export)
    pid = the_process()
    with client_of(run_dir) as client:  # a client that stays
        servers = make_servers()
        assert servers.inspect() == {UUID}
        assert servers.serves(UUID, "disk0")
        servers.serve(UUID, [export, rbd(name="disk1")])
        output, _ = client.communicate("write -P 7 4k 4k\nflush\n", timeout=30)
        assert "wrote 4096/4096" in output
    assert the_process() == pid
    servers.serve(UUID, [rbd(name="disk1")])
    assert (servers.serves(UUID, "disk0"), servers.serves(UUID, "disk1")) == (False, True)
    servers.serve(UUID, [])
    assert servers.inspect() == set()


def test_death_is_seen_and_the_disk_served_again(
    make_export: MakeExport, servers: BlockServers, ended: Queue[str], run_dir: Path
) -> None:
    export = make_export()
    servers.add(UUID, export)
    through(run_dir, "write -f -P 7 4k 4k")
    os.kill(the_process(), signal.SIGKILL)
    assert ended.get(timeout=10) == UUID
    assert not servers.is_alive(UUID)
    assert not servers.serves(UUID, "disk0")
    assert servers.inspect() == {UUID}
    servers.add(UUID, export)
    assert "read 4096/4096" in through(run_dir, "read -P 7 4k 4k")
    servers.stop(UUID)
    assert processes() == []
    assert ended.empty(), "this end was asked for"


def test_grown_image_is_there_for_the_next_connection(
    rbd: MakeExport, servers: BlockServers, ceph: Ceph, run_dir: Path
) -> None:
    export = rbd()
    assert isinstance(export, RbdExport)
    servers.add(UUID, export)
    with client_of(run_dir) as guest:  # the guest's connection
        assert guest.stdin is not None
        ceph.rbd("resize", "--size", "3M", f"{export.pool}/{export.image}")
        for _ in range(2):
            servers.resize(UUID, export, 3 * MIB)
        source = servers.connect(UUID, "disk0")
        source.close()
        assert (source.export, size_of(run_dir, source.export)) == (f"disk0.{3 * MIB}", "3 MiB")
        servers.add(UUID, rbd(name="disk1"))
        output, _ = guest.communicate("length\nwrite -P 7 4k 4k\nflush\n", timeout=30)
        assert "1 MiB" in output
        assert "wrote 4096/4096" in output
    assert "read 4096/4096" in through(run_dir, "read -P 7 4k 4k", f"disk0.{3 * MIB}")
    servers.remove(UUID, "disk1")
    servers.add(UUID, rbd(name="disk1"))
    with pytest.raises(subprocess.CalledProcessError):
        size_of(run_dir, "disk0")
    servers.remove(UUID, "disk0")
    assert '"watchers":[]' in ceph.rbd("status", "--format", "json", f"{export.pool}/{export.image}")


def test_grown_file_over_vhost_user(qcow2: MakeExport, servers: BlockServers) -> None:
    export = qcow2(transport="vhost-user-blk")
    assert isinstance(export, FileExport)
    servers.add(UUID, export)
    servers.resize(UUID, export, 3 * MIB)
    servers.remove(UUID, "disk0")
    assert f'"virtual-size": {3 * MIB}' in outside("qemu-img", "info", "--output", "json", export.source.path)


def test_what_cannot_be_opened_leaves_nothing(rbd: MakeExport, servers: BlockServers) -> None:
    export = rbd()
    assert isinstance(export, RbdExport)
    with pytest.raises(StorageError, match="No such file"):
        servers.add(UUID, rbd(image="missing"))
    assert (processes(), servers.inspect()) == ([], set())
    servers.add(UUID, export)
    with pytest.raises(StorageError, match="error connecting"):
        servers.add(UUID, rbd(name="disk1", user="stranger"))
    assert servers.serves(UUID, "disk0")


def test_cluster_that_is_away_is_given_up_soon(
    qcow2: MakeExport, rbd: MakeExport, servers: BlockServers, run_dir: Path, tmp_path: Path
) -> None:
    conf = tmp_path / "away.conf"
    conf.write_text("[global]\nmon host = [v2:127.0.0.1:1/0]\n")
    servers.add(UUID, qcow2())
    with client_of(run_dir) as client:
        began = time.monotonic()
        with pytest.raises(StorageError, match="error connecting"):
            servers.add(UUID, rbd(name="disk1", credentials=Credentials(conf=conf, key=new_key())))
        assert 4 < time.monotonic() - began < 15
        output, _ = client.communicate("write 4k 4k\nflush\n", timeout=30)
        assert "wrote 4096/4096" in output, "the other disk has not noticed"


def test_last_disk_goes_though_its_cluster_is_away(
    rbd: MakeExport, make_servers: MakeServers, ceph: Ceph, run_dir: Path
) -> None:
    servers = make_servers(command_timeout=2.0)
    servers.add(UUID, rbd())
    with client_of(run_dir) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("write 0 4k\n")  # it stays in the server's cache
        client.stdin.flush()
        while "wrote 4096" not in client.stdout.readline():
            pass
        ceph.kill_daemon("osd.0")
        try:
            servers.remove(UUID, "disk0")
        finally:
            ceph.start_daemon("osd.0")
        client.communicate(timeout=30)
    assert (processes(), servers.inspect()) == ([], set())


def test_key_is_nowhere(
    rbd: MakeExport, servers: BlockServers, ceph: Ceph, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "qemu.qmp")
    servers.add(UUID, rbd())
    process = Path(f"/proc/{the_process()}")
    assert '"driver": "rbd"' in caplog.text, "the traffic is in there"
    seen = [(process / name).read_bytes() for name in ("cmdline", "environ")]
    seen += [(run_dir / UUID / "server.log").read_bytes(), caplog.text.encode()]
    seen += [entry.read_bytes() for entry in (process / "fd").iterdir() if "memfd:" in str(entry.readlink())]
    for key in (ceph.key.encode(), base64.b64decode(ceph.key), ceph.key[20:].encode()):
        assert not [place for place in seen if key in place]


def test_server_is_confined(qcow2: MakeExport, servers: BlockServers, tmp_path: Path) -> None:
    servers.add(UUID, qcow2())
    process = Path(f"/proc/{the_process()}")
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    status = {name: value.strip() for name, _, value in lines}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Groups"]) == ("1", "2", "")
    assert len(set(status["Uid"].split() + status["Gid"].split())) == 1
    for name in ("mnt", "ipc", "uts", "pid", "cgroup"):
        assert (process / "ns" / name).readlink() != Path(f"/proc/self/ns/{name}").readlink(), name
    assert (process / "ns" / "net").readlink() == Path("/proc/self/ns/net").readlink(), "to reach the cluster"
    assert not (process / "root" / str(tmp_path)[1:]).exists()
    assert {entry.name for entry in (process / "root" / "etc").iterdir()} == {"ld.so.cache"}
