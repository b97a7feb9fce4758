"""Which broker and which host a command talks to."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from compute_agent.cli.failure import ExitStatus, Failure
from compute_agent.cli.threads import forbid_eventlet
from compute_agent.conf import DEFAULT_CONFIG_FILE

if TYPE_CHECKING:
    from oslo_config import cfg

    from compute_agent.rpc.client import ComputeClient

VARIABLE = "COMPUTECTL_TRANSPORT_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """All that is needed to reach an agent."""

    transport_url: str
    host: str
    timeout: float
    """Seconds that an answer may take."""
    named_in: str
    """Where the broker is named, for a person."""
    config_file: Path | None
    """Has the broker's other settings (TLS, …), if it is there."""

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Self:
        """From the command line; what it does not say, from the configuration file.

        :raises Failure: the file cannot be used, or nothing names a broker.
        """
        path = options.config_file or Path(DEFAULT_CONFIG_FILE)
        config_file = path if options.config_file or path.exists() else None
        configured = _read(config_file) if config_file else {}
        transport_url, named_in = _broker(options.transport_url, configured, path)
        return cls(
            transport_url=transport_url,
            named_in=named_in,
            host=options.host or configured.get("host") or socket.gethostname(),
            timeout=options.rpc_timeout,
            config_file=config_file,
        )


def _broker(option: str | None, configured: Mapping[str, str | None], path: Path) -> tuple[str, str]:
    """The transport URL, and where it came from."""
    if option:
        return option, "--transport-url"
    if variable := os.environ.get(VARIABLE):
        return variable, f"${VARIABLE}"
    if url := configured.get("transport_url"):
        return url, f"transport_url in {path}"
    raise Failure(
        f"no broker is named: transport_url is not set in {path}",
        "set it there, or give --transport-url rabbit://user:password@broker:5672/",
        ExitStatus.USAGE,
    )


def _read(path: Path) -> dict[str, str | None]:
    # slow to import: only where there is a file to read
    from oslo_config import cfg  # noqa: PLC0415

    from compute_agent.conf.agent import DEFAULT_OPTIONS  # noqa: PLC0415

    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.StrOpt("transport_url"), *DEFAULT_OPTIONS])
    try:
        _load(conf, path)
        return {"transport_url": conf.transport_url, "host": conf.host}
    except cfg.Error as error:
        raise Failure(f"--config-file {path}: {error}", "correct it, or name another", ExitStatus.USAGE) from None


def _load(conf: cfg.ConfigOpts, path: Path | None) -> None:
    conf([], project="compute-agent", default_config_files=[str(path)] if path else [], default_config_dirs=[])


def connect(connection: Connection) -> ComputeClient:
    """A client; nothing is sent yet.

    :raises InvalidConfiguration: the transport URL cannot be used.
    """
    forbid_eventlet()
    # They bring oslo.messaging: 0.2 s that help does without.
    from oslo_config import cfg  # noqa: PLC0415

    from compute_agent.rpc import transport  # noqa: PLC0415
    from compute_agent.rpc.client import ComputeClient  # noqa: PLC0415

    # oslo.messaging reads its own settings (TLS, the kind of queues, …) from the global object
    _load(cfg.CONF, connection.config_file)
    return ComputeClient(transport.connect(connection.transport_url), connection.host, connection.timeout)
