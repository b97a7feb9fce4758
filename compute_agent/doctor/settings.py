"""What the doctor is told besides the other rooms' settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerHost:
    """One RabbitMQ server, and who the agent is there."""

    hostname: str
    port: int
    user: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """How the agent uses RabbitMQ."""

    hosts: tuple[BrokerHost, ...]
    """Of one cluster."""
    virtual_host: str
    tls: bool = False
    ca_file: Path | None = None
    """Without it, TLS believes every certificate."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    durable: bool = True
    """Whether queues outlive the broker."""
    quorum: bool = False
    """Whether queues are kept on several servers."""
    queue_arguments: Mapping[str, object] = field(default_factory=dict)
    """What queues are declared with."""
    queue: str
    """The one that the agents of a virtual host share; its type shows the type of all."""
