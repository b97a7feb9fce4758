"""How this node reaches a cluster: the configuration's path and the user's key, looked up anew for each connection.

Monitors' addresses are only ever read from the configuration, because they change while volumes live.
"""

from __future__ import annotations

import re
from configparser import ConfigParser, Error
from dataclasses import dataclass, field
from pathlib import Path

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.storage.secrets import read_secret

_FIELD = "connection_info.data."
_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*"
_DEFAULT_KEYRINGS = (
    "/etc/ceph/$cluster.$name.keyring",
    "/etc/ceph/$cluster.keyring",
    "/etc/ceph/keyring",
    "/etc/ceph/keyring.bin",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CephSettings:
    """What the node is told about Ceph; times in seconds."""

    conf_dir: Path = Path("/etc/ceph")
    """With a file ``<cluster_name>.conf`` for each cluster."""
    secret_dir: Path = Path("/etc/compute-agent/secrets")
    """With a file for each key, called after its ``secret_uuid``; root's alone."""
    call_timeout: float = 30.0
    """For one thing asked of a cluster."""
    long_call_timeout: float = 3600.0
    """For what moves data: remove, flatten, roll back, upload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterUser:
    """A cluster and who we are to it, in the words of a volume's ``connection_info``. Holds no secret."""

    cluster_name: str = "ceph"
    auth_username: str
    secret_uuid: str | None = None
    """The key; None: it is in the keyring that the configuration names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What opens one connection."""

    conf: Path
    key: str = field(repr=False)
    """base64, as Ceph writes it."""
    monitors: str = ""
    """Where they are now, for who cannot look up the names that the configuration may have for them."""


def find_credentials(user: ClusterUser, settings: CephSettings) -> Credentials:
    """Look on the node.

    :raises InvalidMessage: of ``connection_info.data.…``: a cluster, a user or a secret that this node does not know.
    :raises StorageError: a file that cannot be read, or that others could have read or written.
    """
    conf = settings.conf_dir / f"{_checked('cluster_name', user.cluster_name, _NAME)}.conf"
    _checked("auth_username", user.auth_username, _NAME)
    if not conf.exists():
        raise _unknown("cluster_name", user.cluster_name, f"there is no {conf}")
    if user.secret_uuid is None:
        return Credentials(conf=conf, key=_keyring_key(user, conf))
    return Credentials(conf=conf, key=read_secret(_FIELD + "secret_uuid", user.secret_uuid, settings.secret_dir))


def _keyring_key(user: ClusterUser, conf: Path) -> str:
    name = f"client.{user.auth_username}"
    sections = _read(conf)
    keyrings = next((sections[part]["keyring"] for part in (name, "client", "global") if _names(sections, part)), None)
    places = re.split(r"[,;\s]+", keyrings) if keyrings else _DEFAULT_KEYRINGS
    for place in places:
        path = Path(_expanded(place, user.cluster_name, name))
        key = _read(path).get(name, {}).get("key") if path.exists() else None
        if key:
            return key
    raise _unknown("auth_username", user.auth_username, f"no secret_uuid, and no key in {', '.join(places)}")


def _names(sections: dict[str, dict[str, str]], part: str) -> bool:
    return "keyring" in sections.get(part, {})


def _read(path: Path) -> dict[str, dict[str, str]]:
    """The sections of a file of Ceph's; names of options have underscores."""
    parser = ConfigParser(interpolation=None, strict=False, allow_no_value=True, inline_comment_prefixes=("#", ";"))
    parser.optionxform = lambda name: re.sub("[ -]+", "_", name)  # type: ignore[assignment,method-assign]  # as documented
    try:
        # Ceph ignores the indentation, which here would continue the line before.
        parser.read_string("\n".join(line.strip() for line in path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, Error) as error:
        # Not the parser's own words: they quote lines, which may hold a key.
        raise StorageError(f"{path} cannot be read: {type(error).__name__}") from None
    return {name: {option: value or "" for option, value in parser.items(name)} for name in parser.sections()}


def _expanded(place: str, cluster_name: str, name: str) -> str:
    kind, _, short = name.partition(".")
    values = {"cluster": cluster_name, "name": name, "type": kind, "id": short}
    return re.sub(r"\$(cluster|name|type|id)", lambda found: values[found[1]], place)


def _checked(field: str, value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value):  # it could be a path to somewhere else
        raise _unknown(field, value, "is not a name")
    return value


def _unknown(field: str, value: str, reason: str) -> InvalidMessage:
    return InvalidMessage(f"{_FIELD}{field}", value, reason)
