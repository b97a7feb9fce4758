"""Takes calls off the queue."""

from __future__ import annotations

import logging
from threading import Event, Thread

import oslo_messaging
from oslo_messaging.rpc.server import RPCServer
from oslo_messaging.transport import RPCTransport

from compute_agent.errors import HostError
from compute_agent.rpc.api import Api
from compute_agent.rpc.dispatcher import Dispatcher
from compute_agent.rpc.messages import EXCHANGE, RPC_VERSION, TOPIC
from compute_agent.rpc.transport import broker_errors, broker_of

LOG = logging.getLogger(__name__)


PAUSE = 5.0
"""Seconds between two attempts at a broker that refuses us; one that is not there is oslo.messaging's to wait for."""


class RpcServer:
    """Serves the calls to one host, in threads. A broker that is not there is waited for."""

    def __init__(self, transport: RPCTransport, host: str, api: Api) -> None:
        self._transport = transport
        self._target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=host, version=RPC_VERSION)
        self._dispatcher = Dispatcher(api)
        self._stopping = Event()
        self._serving = Event()
        self._server: RPCServer | None = None

    def start(self) -> None:
        """Begin; returns at once, whether or not the broker is there."""
        Thread(target=self._start, name="rpc-start", daemon=True).start()

    def wait_until_serving(self, seconds: float) -> bool:
        """Whether the broker passes on calls to us; False: not yet after `seconds`."""
        return self._serving.wait(seconds)

    def stop(self, seconds: float) -> bool:
        """Take no more calls, and wait for those under way; False if they were not over after `seconds`."""
        self._stopping.set()
        stopping = Thread(target=self._stop, name="rpc-stop", daemon=True)
        stopping.start()
        stopping.join(seconds)
        return not stopping.is_alive()

    def _start(self) -> None:
        LOG.info("Connecting to the broker at %s", broker_of(self._transport))
        while not self._stopping.is_set():
            try:
                self._server = self._connect()
            except HostError as error:
                LOG.error("Cannot serve, trying again in %d s: %s", PAUSE, error)
                self._stopping.wait(PAUSE)
            else:
                LOG.info("Serving RPC %s on %s", RPC_VERSION, self._target)
                self._serving.set()
                break
        if self._stopping.is_set():  # it was too early for `stop` to see the server
            self._stop()

    def _connect(self) -> RPCServer:
        """Blocks until the broker is there; one that refused us needs a server that was not started before."""
        server = RPCServer(self._transport, self._target, self._dispatcher)
        with broker_errors(self._transport):
            server.start()
        return server

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server.wait()
