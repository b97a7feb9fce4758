"""A configuration is turned into settings, or refused with one clear error."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from compute_agent.conf.loading import Configuration, load
from compute_agent.errors import InvalidConfiguration
from compute_agent.network.settings import NetworkSettings
from compute_agent.virt.settings import VirtSettings

Load = Callable[..., Configuration]


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Loads a file of these lines; its directories are below tmp_path, unless it names others."""

    def load_text(text: str = "", agent: str = "") -> Configuration:
        directories = f"state_dir={tmp_path}/state\nrun_dir={tmp_path}/run\n"
        path = tmp_path / "compute-agent.conf"
        path.write_text(f"{text}\n[agent]\n{agent or directories}\n")
        return load(["--config-file", str(path)], cfg.ConfigOpts())

    return load_text


def refusal(load: Load, *arguments: str) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as caught:
        load(*arguments)
    return caught.value


def test_defaults(load_text: Load, tmp_path: Path) -> None:
    configuration = load_text()
    assert configuration.agent.host == socket.gethostname()
    assert configuration.virt == VirtSettings(
        state_dir=tmp_path / "state" / "guests", run_dir=tmp_path / "run" / "guests"
    )
    assert configuration.network == NetworkSettings(host=socket.gethostname())
    assert configuration.storage.disk_dir == tmp_path / "state" / "disks"
    assert configuration.storage.image_sources == (Path("/var/lib/compute-agent/sources"),)
    assert configuration.storage.image_dir.is_dir()


def test_what_the_file_says(load_text: Load, tmp_path: Path) -> None:
    configuration = load_text(
        f"""
        [DEFAULT]
        host = node-7
        debug = true
        [virt]
        accelerator = tcg
        run_dir = {tmp_path}/sockets
        start_timeout = 7.5
        [network]
        ovsdb_connection = tcp:127.0.0.1:6640
        [storage]
        image_sources = /srv/a, /srv/b
        [oslo_messaging_rabbit]
        heartbeat_timeout_threshold = 10
        """.replace("    ", "")
    )
    assert configuration.agent.host == configuration.network.host == "node-7"
    assert (configuration.virt.accelerator, configuration.virt.start_timeout) == ("tcg", 7.5)
    assert configuration.virt.run_dir == tmp_path / "sockets"
    assert configuration.network.ovsdb_connection == "tcp:127.0.0.1:6640"
    assert configuration.storage.image_sources == (Path("/srv/a"), Path("/srv/b"))


@pytest.mark.parametrize(
    ("text", "field", "value", "reason"),
    [
        ("[virt]\naccelerater=kvm", "virt.accelerater", "kvm", "no such option"),
        ("[vrit]\naccelerator=kvm", "vrit.accelerator", "kvm", "no section [vrit]"),
        ("[DEFAULT]\nworkers=5", "DEFAULT.workers", "5", "no such option"),
        ("[oslo_messaging_rabbit]\nheartbeet=5", "oslo_messaging_rabbit.heartbeet", "5", "no such option"),
        ("[virt]\naccelerator=xen", "virt.accelerator", "xen", "Valid values are"),
        ("[virt]\nstart_timeout=0", "virt.start_timeout", "0", "greater than or equal to 1"),
        ("[virt]\nstart_timeout=soon", "virt.start_timeout", "soon", "could not convert"),
        ("[virt]\nconsole_log_size=1.5", "virt.console_log_size", "1.5", "invalid literal"),
        ("[network]\novsdb_connection=/run/db.sock", "network.ovsdb_connection", "/run/db.sock", "regex"),
        ("[DEFAULT]\nhost=two words", "DEFAULT.host", "two words", "regex"),
        ("[DEFAULT]\ndebug=perhaps", "DEFAULT.debug", "perhaps", "boolean"),
        ("[storage]\ndisk_dir=disks", "storage.disk_dir", "disks", "absolute"),
        ("[storage]\nimage_sources=/a,b", "storage.image_sources", "b", "absolute"),
        ("[storage]\nimage_dir=$nowhere/images", "storage.image_dir", "$nowhere/images", "nowhere"),
        ("[virt]\nbios=${virt.bios}/x", "virt.bios", "${virt.bios}/x", "refers to itself"),
        ("[virt]\nbi\x00os=x", "virt.bi\\x00os", "x", "no such option"),
        ("[virt]\nstate_dir=/proc/guests", "virt.state_dir", "/proc/guests", "cannot be made"),
        ("[virt]\nstate_dir=/dev/null", "virt.state_dir", "/dev/null", "cannot be made"),
    ],
)
def test_what_is_wrong_is_named(load_text: Load, text: str, field: str, value: str, reason: str) -> None:
    error = refusal(load_text, text)
    assert (error.field, error.value) == (field, value)
    assert reason in error.reason


def test_what_ends_the_library_is_told_too(load_text: Load) -> None:
    error = refusal(load_text, "[DEFAULT]\ndebug=$nowhere")
    assert error.field == "--config-file"
    assert "nowhere" in error.reason
    assert refusal(load_text, "[DEFAULT]\nlog_file=x\ndebug=$log_file").args == (
        "DEFAULT.debug",
        "x",
        "has no such value",
    )


def test_values_of_the_agent_section(load_text: Load) -> None:
    assert refusal(load_text, "", "state_dir=var/lib").field == "agent.state_dir"
    assert refusal(load_text, "", "workers=0").field == "agent.workers"


def test_a_deprecated_name_is_known(load_text: Load) -> None:
    load_text("[DEFAULT]\nrpc_thread_pool_size=8")


def test_a_password_is_not_shown(load_text: Load) -> None:
    error = refusal(
        load_text, "[DEFAULT]\ntransport-url=rabbit://u:secret@h/\n[virt]\ntransport_url=rabbit://u:secret@h/"
    )
    assert error.field == "virt.transport_url"
    assert "secret" not in str(error)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.conf"
    error = refusal(lambda: load(["--config-file", str(missing)], cfg.ConfigOpts()))
    assert error.args == ("--config-file", str(missing), "No such file or directory")


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "compute-agent.conf"
    path.write_text("this is no option\n")
    error = refusal(lambda: load(["--config-file", str(path)], cfg.ConfigOpts()))
    assert (error.field, error.value) == ("--config-file", str(path))
