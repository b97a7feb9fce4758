"""What owners write into a config drive: names, keys, metadata, addresses. It comes out as it went in, as text only."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import yaml
from pycdlib import PyCdlib

from compute_agent.errors import InvalidMessage
from compute_agent.instance.model import Instance
from compute_agent.rpc.decode import decode
from compute_agent.storage.checks import check_instance
from compute_agent.storage.config_drive.iso import write_iso
from compute_agent.storage.config_drive.nocloud import VOLUME_ID, make_files
from tests.fuzz.generation import UUIDS, value_of
from tests.fuzz.mutation import TEXTS, spoil_json
from tests.fuzz.target import Case, Check, Target

_WRITTEN = 0.05
"""Of the drives."""
_SUBNETS = (
    ("10.0.0.0/24", "10.0.0.1", "10.0.0.7"),
    ("fd00::/64", "fe80::1", "fd00::7"),
    ("192.0.2.128/25", None, "192.0.2.200"),
)


def an_order(random: Random) -> dict[str, Any]:
    """One whose owner tries to write what is not his."""
    order = value_of(random, Instance)
    order |= {"config_drive": True, "block_devices": [], "direct_boot": {"kernel": _kernel()}}
    order["metadata"] = {_text(random): _text(random) for _ in range(random.randint(0, 3))}
    order["ssh_keys"] = [_text(random) for _ in range(random.randint(0, 3))]
    order["user_data"] = random.choice((None, base64.b64encode(random.randbytes(random.randint(0, 90))).decode()))
    order["name"] = _text(random)
    order["ports"] = [_port(random, number) for number in range(random.randint(0, 3))]
    return spoil_json(random, order) if random.random() < 0.3 else order


def _kernel() -> dict[str, str]:
    return {"url": "file:///kernel", "checksum": "sha256:" + "0" * 64}


def _text(random: Random) -> str:
    pieces = [random.choice(TEXTS), chr(random.choice((random.randrange(0x300), random.randrange(0x110000)))), "a"]
    return "".join(random.choice(pieces) for _ in range(random.randint(1, 4)))


def _port(random: Random, number: int) -> dict[str, Any]:
    cidr, gateway, address = random.choice(_SUBNETS)
    subnet = {"cidr": cidr, "gateway_ip": gateway, "dns_nameservers": [address] * random.randint(0, 2)}
    fixed_ips = [{"ip_address": address, "subnet": subnet}] * random.randint(0, 2)
    return {"id": UUIDS[number], "mac_address": f"52:54:00:00:00:0{number}", "fixed_ips": fixed_ips}


@contextmanager
def _open() -> Iterator[Check]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="fuzz-") as directory:

        def check(case: Case) -> None:
            order = an_order(case.random)
            case.show(order)
            try:
                arguments = {"request_id": UUIDS[0], "instance": order}
                instance = decode("build_and_run_instance", arguments).instance  # type: ignore[attr-defined]
                check_instance(instance)
            except InvalidMessage:
                return
            files = make_files(instance)
            _require_meaning(instance, files)
            if case.random.random() < _WRITTEN:
                _require_same(files, Path(directory) / "drive")

        yield check


def _require_meaning(instance: Instance, files: dict[str, bytes]) -> None:
    """As cloud-init reads it; and whoever takes it for JSON."""
    assert set(files) == {"meta-data", "user-data", "vendor-data", "network-config"}
    meta = yaml.load(files["meta-data"], yaml.CSafeLoader)
    assert meta == json.loads(files["meta-data"])
    assert meta.keys() == {"instance-id", "local-hostname", "public-keys", "meta"}
    assert (meta["instance-id"], meta["public-keys"], meta["meta"]) == (
        *(instance.uuid, instance.ssh_keys, instance.metadata),
    )
    network = yaml.load(files["network-config"], yaml.CSafeLoader)
    assert network == json.loads(files["network-config"])
    assert list(network["ethernets"]) == [f"net{number}" for number in range(len(instance.ports))]
    for port, link in zip(instance.ports, network["ethernets"].values(), strict=True):
        assert (link["match"], link["mtu"]) == ({"macaddress": port.mac_address}, port.mtu)
        wanted = [f"{one.ip_address}/{one.subnet.cidr.rpartition('/')[2]}" for one in port.fixed_ips]
        assert [one.split("/")[0] for one in link.get("addresses", [])] == [one.split("/")[0] for one in wanted]
    assert files["user-data"] == base64.b64decode(instance.user_data or "", validate=True)


def _require_same(files: dict[str, bytes], path: Path) -> None:
    write_iso(VOLUME_ID, files, path)
    iso = PyCdlib()
    iso.open(str(path))
    for kind in ("rr_path", "joliet_path"):
        names = {child.file_identifier() for child in iso.list_children(**{kind: "/"}) if child and not child.is_dir()}
        assert len(names) == len(files)
        for name, content in files.items():
            found = io.BytesIO()
            iso.get_file_from_iso_fp(found, **{kind: f"/{name}"})
            assert found.getvalue() == content
    iso.close()


TARGET = Target(name="config-drive", open=_open, weight=2, deadline=5.0)
