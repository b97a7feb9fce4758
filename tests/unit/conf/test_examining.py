"""The doctor's look at a configuration: all mistakes, and settings nevertheless."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent.conf.examining import examine
from compute_agent.doctor.settings import BrokerHost, BrokerSettings


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "compute-agent.conf"
    path.write_text(text)
    return path


def broker_of(tmp_path: Path, text: str) -> BrokerSettings:
    examined = examine(write(tmp_path, text))
    assert examined.broker is not None
    assert examined.mistakes == []
    return examined.broker


def test_a_file_without_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path, f"[DEFAULT]\nhost = node7\n[agent]\nstate_dir = {tmp_path}/state\n")
    examined = examine(path)
    assert examined.mistakes == []
    assert examined.configuration.agent.host == "node7"
    assert examined.configuration.storage.disk_dir == tmp_path / "state" / "disks"
    assert not (tmp_path / "state").exists()


def test_every_mistake_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "[DEFAULT]\nhost = two words\n[virt]\naccelerater = kvm\naccelerator = xen\nqemu_binary = /opt/qemu\n"
        "[storage]\nimage_dir = $nowhere/images\nreserved_space = 7\n",
    )
    examined = examine(path)
    assert [mistake.field for mistake in examined.mistakes] == [
        "DEFAULT.host",
        "virt.accelerater",
        "virt.accelerator",
        "storage.image_dir",
    ]
    virt, storage = examined.configuration.virt, examined.configuration.storage
    assert (virt.accelerator, virt.qemu_binary) == ("auto", "/opt/qemu")
    assert storage.image_dir == Path("/var/lib/compute-agent/images")
    assert storage.reserved_space == 7


def test_defaults_in_place_of_mistakes_do_not_outlive_the_examination(tmp_path: Path) -> None:
    path = write(tmp_path, "[virt]\naccelerator = xen\n")
    examine(path)
    write(tmp_path, "[virt]\naccelerator = tcg\n")
    assert examine(path).configuration.virt.accelerator == "tcg"


def test_a_mistake_about_the_brokers_library(tmp_path: Path) -> None:
    examined = examine(write(tmp_path, "[oslo_messaging_rabbit]\nssl = perhaps\n"))
    assert [mistake.field for mistake in examined.mistakes] == ["oslo_messaging_rabbit.ssl"]
    assert examined.broker is not None
    assert not examined.broker.tls


@pytest.mark.parametrize(
    ("text", "field"), [("[DEFAULT]\ndebug = #\n", "DEFAULT.debug"), ("[ceph]\npool = p\n", "ceph.user")]
)
def test_a_mistake_that_hides_the_rest(tmp_path: Path, text: str, field: str) -> None:
    examined = examine(write(tmp_path, text))
    assert [mistake.field for mistake in examined.mistakes] == [field]
    assert examined.configuration.agent.state_dir == Path("/var/lib/compute-agent")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    examined = examine(tmp_path / "missing.conf")
    assert [mistake.field for mistake in examined.mistakes] == ["--config-file"]
    assert examined.configuration.agent.state_dir == Path("/var/lib/compute-agent")


def test_the_broker(tmp_path: Path) -> None:
    assert broker_of(
        tmp_path,
        "[DEFAULT]\ntransport_url = rabbit://u:p%40w@a:5671,v:w@[::1]/cloud\n"
        "[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /ca.pem\nrabbit_quorum_queue = true\n"
        "rabbit_quorum_delivery_limit = 3\n",
    ) == BrokerSettings(
        hosts=(
            BrokerHost(hostname="a", port=5671, user="u", password="p@w"),
            BrokerHost(hostname="::1", port=5672, user="v", password="w"),
        ),
        virtual_host="cloud",
        tls=True,
        ca_file=Path("/ca.pem"),
        durable=True,
        quorum=True,
        queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 3},
        queue="compute",
    )


def test_the_broker_where_none_is_named(tmp_path: Path) -> None:
    broker = broker_of(tmp_path, "[oslo_messaging_rabbit]\namqp_durable_queues = false\n")
    assert broker.hosts == (BrokerHost(hostname="localhost", port=5672, user="guest", password="guest"),)
    assert (broker.virtual_host, broker.durable, broker.quorum) == ("/", False, False)


@pytest.mark.parametrize("url", ["fake://u:secret@h/", "rabbit://u:secret@h:port/"])
def test_a_broker_that_is_none(tmp_path: Path, url: str) -> None:
    examined = examine(write(tmp_path, f"[DEFAULT]\ntransport_url = {url}\n"))
    assert examined.broker is None
    assert [mistake.field for mistake in examined.mistakes] == ["DEFAULT.transport_url"]
    assert "secret" not in str(examined.mistakes[0])
