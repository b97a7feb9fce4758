"""What a controller wants changed: the unit that is accepted once, whatever happens."""

from __future__ import annotations

import hashlib

import msgspec

from compute_agent.instance.model import Instance


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded and validated request; `arguments` are plain JSON values."""

    request_id: str
    operation: str
    """``boot``, ``start``, ``stop``, ``reboot``, ``pause``, ``unpause``, ``suspend``, ``resume``, ``terminate``."""
    instance_uuid: str
    arguments: dict[str, object] = {}
    instance: Instance | None = None
    """Of a ``boot`` only."""

    def digest(self) -> str:
        """Equal for two requests that ask for the same; tells a repetition from a reused id."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()
