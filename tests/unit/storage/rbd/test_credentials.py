"""Where a node finds what opens a cluster, and what it says when it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser, find_credentials
from compute_agent.storage.secrets import readable_once

SECRET = "5f1d3c3e-6f1a-4a57-8d6e-6b8d2c7f0a11"
KEY = "AQBSdFhcGbTUDxAAoQF9ZLQ8V6w0PzIoMQ8gRA=="


@pytest.fixture
def settings(tmp_path: Path) -> CephSettings:
    """A cluster `ceph` with a secret."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "ceph.conf").write_text("[global]\nmon host = 10.0.0.1\n")
    write_secret(tmp_path / "secrets" / SECRET)
    return CephSettings(conf_dir=tmp_path, secret_dir=tmp_path / "secrets")


def write_secret(path: Path, mode: int = 0o600) -> None:
    path.write_text(f"{KEY}\n")
    path.chmod(mode)


def test_a_secret(settings: CephSettings, tmp_path: Path) -> None:
    found = find_credentials(ClusterUser(auth_username="cinder", secret_uuid=SECRET), settings)
    assert (found.conf, found.key) == (tmp_path / "ceph.conf", KEY)
    assert KEY not in repr(found)


def test_the_key_goes_through_a_pipe(settings: CephSettings) -> None:
    found = find_credentials(ClusterUser(auth_username="cinder", secret_uuid=SECRET), settings)
    with readable_once(found.key) as descriptor:
        assert os.read(descriptor, 1000) == KEY.encode()
        assert os.read(descriptor, 1000) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("user", "field"),
    [
        (ClusterUser(cluster_name="other", auth_username="cinder", secret_uuid=SECRET), "cluster_name"),
        (ClusterUser(cluster_name="../ceph", auth_username="cinder", secret_uuid=SECRET), "cluster_name"),
        (ClusterUser(auth_username="cin/der", secret_uuid=SECRET), "auth_username"),
        (ClusterUser(auth_username="cinder", secret_uuid=SECRET.replace("5", "6")), "secret_uuid"),
        (ClusterUser(auth_username="cinder", secret_uuid="../ceph.conf"), "secret_uuid"),
        (ClusterUser(auth_username="nobody"), "auth_username"),
    ],
)
def test_what_the_node_does_not_know(settings: CephSettings, user: ClusterUser, field: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        find_credentials(user, settings)
    assert refusal.value.field == f"connection_info.data.{field}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach(settings: CephSettings, mode: int) -> None:
    (settings.secret_dir / SECRET).chmod(mode)
    with pytest.raises(StorageError, match="must belong to root and be closed to others"):
        find_credentials(ClusterUser(auth_username="cinder", secret_uuid=SECRET), settings)


@pytest.mark.parametrize(
    ("conf", "keyring"),
    [
        (
            "[client.cinder]\n\tkeyring = {}/$cluster.$name.keyring\n[client]\nkeyring = /nowhere",
            "ceph.client.cinder.keyring",
        ),
        ("[global]\nfsid = 1\n[client]\n  keyring={}/none,{}/$type.$id  ; of all", "client.cinder"),
        ("[global]\nmon host = a\n  keyring = {}/keyring\n", "keyring"),
    ],
)
def test_the_keyring_of_the_configuration(settings: CephSettings, tmp_path: Path, conf: str, keyring: str) -> None:
    (tmp_path / "ceph.conf").write_text(conf.replace("{}", str(tmp_path)))
    (tmp_path / keyring).write_text(
        f'[client.admin]\n\tkey = other\n[client.cinder]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n'
    )
    assert find_credentials(ClusterUser(auth_username="cinder"), settings).key == KEY


def test_a_broken_keyring_is_not_quoted(settings: CephSettings, tmp_path: Path) -> None:
    (tmp_path / "ceph.conf").write_text(f"[client]\nkeyring = {tmp_path}/keyring\n")
    (tmp_path / "keyring").write_text(f"key = {KEY}\n")
    with pytest.raises(StorageError, match="keyring cannot be read") as refusal:
        find_credentials(ClusterUser(auth_username="cinder"), settings)
    assert KEY not in str(refusal.value)
