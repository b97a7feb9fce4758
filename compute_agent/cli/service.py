"""The service from its first look at the guests to its last answer."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Event

from oslo_config import cfg
from oslo_log import log
from oslo_messaging.transport import RPCTransport

from compute_agent import __version__
from compute_agent.agent.log_context import ContextFilter
from compute_agent.agent.manager import Manager
from compute_agent.agent.peers import Outside
from compute_agent.cli.notify import notify_systemd
from compute_agent.conf.loading import Configuration, load
from compute_agent.errors import HostError
from compute_agent.network.ovs.driver import OvsPortDriver
from compute_agent.rpc.notifications import Publisher
from compute_agent.rpc.peer_client import PeerClient
from compute_agent.rpc.server import RpcServer
from compute_agent.rpc.transport import connect
from compute_agent.storage.contract import OnCutOff
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.hypervisors import open_hypervisors

LOG = logging.getLogger(__name__)

FIRST_CONNECTION = 3.0
"""Seconds that a broker gets before the service counts as started without it."""

LAST_ANSWERS = 3.0
"""Seconds that calls under way get at the end."""


def run(argv: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT.

    :raises ComputeAgentError: it cannot start.
    """
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    configuration = load(argv)
    _set_up_logging()
    with _being_the_only_agent(configuration.agent.state_dir):
        _serve(configuration, stop)


def _serve(configuration: Configuration, stop: Event) -> None:
    host = configuration.agent.host
    LOG.info("compute-agent %s starts on host %s", __version__, host)
    transport = connect()
    manager = _open_manager(configuration, transport)
    server = RpcServer(transport, host, manager)
    server.start()
    if not server.wait_until_serving(FIRST_CONNECTION):
        LOG.warning("The broker is not there yet; guests are looked after meanwhile")
    notify_systemd("READY=1")  # also without a broker: systemd must not start us anew for that
    stop.wait()
    LOG.info("Stopping; guests run on")
    notify_systemd("STOPPING=1")
    manager.stop_waiting()
    if not server.stop(LAST_ANSWERS):
        LOG.warning("Calls are left without an answer; their callers will repeat them")
    manager.close()


def _open_manager(configuration: Configuration, transport: RPCTransport) -> Manager:
    """The agent with its rooms; on return it looks after the guests of the agent before it."""
    return Manager(
        configuration.agent,
        make_hypervisor=partial(open_hypervisors, configuration.virt),
        network=OvsPortDriver(configuration.network),
        make_storage=lambda on_cut_off: _open_storage(configuration.storage, on_cut_off),
        outside=Outside(
            publish=Publisher(transport, configuration.agent.host), peers=cache(partial(PeerClient, transport))
        ),
    )


def _open_storage(settings: StorageSettings, on_cut_off: OnCutOff) -> NodeDisks:
    return NodeDisks(settings, BlockServers(settings.rbd.servers, on_cut_off))


@contextmanager
def _being_the_only_agent(state_dir: Path) -> Iterator[None]:
    """Two agents on one journal would both start what it asks for.

    :raises HostError: there is one already.
    """
    lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HostError(f"agent.state_dir: another compute-agent uses {state_dir}") from None
    finally:
        os.close(lock)


def _set_up_logging() -> None:
    """oslo.log as it is configured; each line says which request and instance it is about."""
    log.setup(cfg.CONF, "compute-agent", __version__)
    for handler in logging.getLogger().handlers:
        handler.addFilter(ContextFilter())
