"""What the daemons and the clients of a one-node Ceph read: configuration and keys."""

from __future__ import annotations

import base64
import secrets
import struct
import time
from pathlib import Path

_IMPATIENT = """\
[client]
objecter tick interval = 0.5
objecter timeout = 1.0
"""
"""Where there is one OSD, nobody tells a client that it is back; by itself a client asks after 10 to 15 s."""

_AES = 1
_KEY_SIZE = 16


def new_key() -> str:
    """A cephx key in base64, as ``ceph-authtool --gen-print-key`` makes it: type, seconds, nanoseconds, length, key."""
    header = struct.pack("<HIIH", _AES, int(time.time()), 0, _KEY_SIZE)
    return base64.b64encode(header + secrets.token_bytes(_KEY_SIZE)).decode()


def client_configuration(fsid: str, address: str, port: int) -> str:
    """What a compute node has as /etc/ceph/ceph.conf."""
    return f"[global]\nfsid = {fsid}\nmon host = [v2:{address}:{port}/0]\n{_IMPATIENT}"


def monitor_keyring(user: str, key: str) -> str:
    """All who are known from the beginning: for the monitor's first start, the daemons and the administrator."""
    everything = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
    known = {
        "mon.": (new_key(), everything),
        "client.admin": (new_key(), everything),
        "mgr.x": (new_key(), {**everything, "mon": "allow profile mgr"}),
        "osd.0": (new_key(), {**everything, "mon": "allow profile osd", "mgr": "allow profile osd"}),
        f"client.{user}": (key, {"mon": "profile rbd", "osd": "profile rbd", "mgr": "profile rbd"}),
    }
    return "".join(_entry(name, key, capabilities) for name, (key, capabilities) in known.items())


def _entry(name: str, key: str, capabilities: dict[str, str]) -> str:
    caps = "".join(f'\tcaps {kind} = "{what}"\n' for kind, what in capabilities.items())
    return f"[{name}]\n\tkey = {key}\n{caps}"


def daemon_configuration(directory: Path, fsid: str, address: str, port: int, store: str) -> str:
    """One replica, no warnings about that, everything in `directory`, and quick to start."""
    return f"""\
[global]
fsid = {fsid}
mon host = [v2:{address}:{port}/0]
public addr = {address}
cluster addr = {address}
ms bind msgr1 = false
keyring = {directory}/keyring
run dir = {directory}/run
admin socket =
pid file =
log file =
log to stderr = true
err to stderr = true
crash dir = {directory}/run
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon allow pool delete = true
auth allow insecure global id reclaim = false

[mon]
mon data = {directory}/mon
mon cluster log file = {directory}/cluster.log
mon initial members = a
mon data avail warn = 2
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01

[mgr]
mgr data = {directory}/mgr
mgr tick period = 1
mgr stats period = 1

[osd]
osd data = {directory}/osd
osd objectstore = {store}
memstore device bytes = 4294967296
bluestore block size = 10737418240
osd memory target = 939524096
osd mclock skip benchmark = true
osd op num shards = 2

{_IMPATIENT}log to stderr = false
"""
