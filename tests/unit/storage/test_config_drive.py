"""What cloud-init will read: exactly what was ordered, whatever characters it has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pycdlib import PyCdlib

from compute_agent.instance.model import FixedIp, Instance, Port, Subnet
from compute_agent.storage.config_drive.iso import write_iso
from compute_agent.storage.config_drive.nocloud import VOLUME_ID, hostname, make_files

from .making import UUID, make_instance

V4 = Subnet(cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dns_nameservers=["10.0.0.2", "10.0.0.3"])
V6 = Subnet(cidr="fd00::/64", gateway_ip="fe80::1", dns_nameservers=["fd00::2"])


def meta_data(instance: Instance) -> object:
    return yaml.safe_load(make_files(instance)["meta-data"])


def test_meta_data() -> None:
    instance = make_instance(
        ssh_keys=["ssh-ed25519 AAAA me", "ssh-rsa BBBB"], metadata={"role": "web"}, hostname="Web1"
    )
    assert meta_data(instance) == {
        "instance-id": UUID,
        "local-hostname": "Web1",
        "public-keys": ["ssh-ed25519 AAAA me", "ssh-rsa BBBB"],
        "meta": {"role": "web"},
    }


@settings(max_examples=30, deadline=None)
@given(metadata=st.dictionaries(st.text(min_size=1, max_size=255), st.text()), key=st.text())
def test_nothing_becomes_structure(metadata: dict[str, str], key: str) -> None:
    read = meta_data(make_instance(metadata=metadata, ssh_keys=[key]))
    assert read == {"instance-id": UUID, "local-hostname": "web-one", "public-keys": [key], "meta": metadata}


@pytest.mark.parametrize(
    "text",
    [
        "a: b\n- c",
        '"}\nseedfrom: http://x/',
        "yes",
        "1e3",
        "null",
        "!!python/object x",
        "\x85\u2028\u2029\x7f\x9f\ufeff",
        "😀",
    ],
)
def test_injection(text: str) -> None:
    read = meta_data(make_instance(metadata={text: text}, ssh_keys=[text], name=text))
    assert isinstance(read, dict)
    assert (read["meta"], read["public-keys"]) == ({text: text}, [text])
    assert set(read) == {"instance-id", "local-hostname", "public-keys", "meta"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Web One", "web-one"),
        ("--a__b--", "a-b"),
        ("€€€", f"server-{UUID}"),
        ("x" * 255, "x" * 63),
        ("a" * 62 + " b", "a" * 62),
    ],
)
def test_hostname_from_name(name: str, expected: str) -> None:
    assert hostname(make_instance(name=name)) == expected


def test_network_config() -> None:
    static = Port(
        id=UUID,
        mac_address="fa:16:3e:00:00:01",
        mtu=1400,
        fixed_ips=[
            FixedIp(ip_address="10.0.0.5", subnet=V4),
            FixedIp(ip_address="10.0.0.6", subnet=V4),
            FixedIp(ip_address="fd00::5", subnet=V6),
        ],
    )
    dynamic = Port(id=UUID, mac_address="fa:16:3e:00:00:02")
    assert yaml.safe_load(make_files(make_instance(ports=[static, dynamic]))["network-config"]) == {
        "version": 2,
        "ethernets": {
            "net0": {
                "match": {"macaddress": "fa:16:3e:00:00:01"},
                "mtu": 1400,
                "addresses": ["10.0.0.5/24", "10.0.0.6/24", "fd00::5/64"],
                "gateway4": "10.0.0.1",
                "gateway6": "fe80::1",
                "nameservers": {"addresses": ["10.0.0.2", "10.0.0.3", "fd00::2"]},
            },
            "net1": {"match": {"macaddress": "fa:16:3e:00:00:02"}, "mtu": 1500, "dhcp4": True},
        },
    }


def test_same_instance_same_files() -> None:
    one = make_instance(metadata={"a": "1", "b": "2"})
    other = make_instance(metadata={"b": "2", "a": "1"})
    assert make_files(one) == make_files(other)


def test_drive_read_back(tmp_path: Path) -> None:
    user_data = bytes(range(256)) * 300
    files = make_files(make_instance(user_data=base64.b64encode(user_data).decode()))
    assert files["user-data"] == user_data
    write_iso(VOLUME_ID, files, tmp_path / "config.iso")
    iso = PyCdlib()
    iso.open(str(tmp_path / "config.iso"))
    for kind in ("rr_path", "joliet_path"):
        assert {name: read(iso, kind, name) for name in files} == files
    assert set(files) == {"meta-data", "user-data", "vendor-data", "network-config"}
    assert iso.pvd.volume_identifier.strip() == b"cidata"
    iso.close()


def read(iso: PyCdlib, kind: str, name: str) -> bytes:
    content = io.BytesIO()
    iso.get_file_from_iso_fp(content, **{kind: f"/{name}"})
    return content.getvalue()
