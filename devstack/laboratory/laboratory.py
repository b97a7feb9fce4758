"""A whole lab: network, broker, and hosts with an agent on each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

import compute_agent
from laboratory import image, ssh
from laboratory.host import VirtualHost
from laboratory.settings import GATEWAY, HostSettings, Site
from laboratory.underlay import Underlay
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.commands import run
from sandbox.nfs import NfsServer

Offer = Literal["directory", "ceph"]
"""A directory at ``/shared``, by NFS; a cluster for the hosts' disks."""


def _in_silence(_: str) -> None:
    pass


class Laboratory:
    """A context manager; one in a network namespace, made by `sandbox/enter`."""

    def __init__(
        self,
        directory: Path,
        hosts: int = 2,
        settings: HostSettings | None = None,
        *,
        offers: Collection[Offer] = (),
        say: Callable[[str], None] = _in_silence,
    ) -> None:
        """`directory` must be short (60 bytes), because sockets are made in it, and does not exist yet.

        `offers` is what all hosts have in common; `say` is told what happens.
        """
        self.directory = directory
        self.shared = directory / "shared" if "directory" in offers else None
        self.file_server = NfsServer(directory / "nfs", self.shared, GATEWAY) if self.shared else None
        self.broker = Broker(directory / "broker", GATEWAY)
        self.ceph = Ceph(directory / "ceph", address=GATEWAY) if "ceph" in offers else None
        site = Site(
            directory=directory,
            hosts=hosts,
            transport_url=self.broker.transport_url,
            ceph=self.ceph.options() if self.ceph else "",
            shared=self.shared is not None,
            settings=settings or HostSettings(),
        )
        self.hosts = [VirtualHost(site, number) for number in range(1, hosts + 1)]
        self._say = say
        self._surroundings = ExitStack()

    def __enter__(self) -> Laboratory:
        with ExitStack() as surroundings:
            self._start(surroundings)
            self._surroundings = surroundings.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._surroundings.close()

    def _start(self, surroundings: ExitStack) -> None:
        self.directory.mkdir()
        ssh.prepare(self.directory, len(self.hosts))
        # What Python has not compiled yet, each host would compile in emulation.
        run(sys.executable, "-m", "compileall", "-q", Path(compute_agent.__file__).parent)
        self._say(f"kernel: {image.modules().name}")
        surroundings.enter_context(Underlay(len(self.hosts)))
        if self.file_server:
            surroundings.enter_context(self.file_server)
        if self.ceph:
            surroundings.enter_context(self.ceph)
        with ThreadPoolExecutor() as pool:
            surroundings.callback(self.broker.kill)
            broker = pool.submit(self._start_broker)
            for started in [pool.submit(self._start_host, host, broker, surroundings) for host in self.hosts]:
                started.result()

    def _start_broker(self) -> None:
        self.broker.start()
        self._say(f"broker: RabbitMQ on {GATEWAY}:{self.broker.port}")

    def _start_host(self, host: VirtualHost, broker: Future[None], surroundings: ExitStack) -> None:
        surroundings.callback(host.kill)
        host.start()
        self._say(f"{host.name}: up, at {host.address}")
        broker.result()
        host.start_agent()
        self._say(f"{host.name}: its agent serves")
