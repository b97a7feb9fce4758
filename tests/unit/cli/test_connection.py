"""Which broker and host are meant; help; nothing that is slow is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compute_agent.errors import HostError
from tests.unit.cli.conftest import Shell

CONFIG = """\
[DEFAULT]
transport_url = rabbit://in-the-file:5672/
host = from-the-file
unknown_to_computectl = 1
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "compute-agent.conf"
    path.write_text(CONFIG)
    return str(path)


def test_the_configuration_file(shell: Shell, config: str) -> None:
    assert shell("list", options=("--config-file", config)).status == 0
    assert shell.connections[0].transport_url == "rabbit://in-the-file:5672/"
    assert shell.connections[0].host == "from-the-file"
    assert shell.connections[0].timeout == 10.0


def test_options_win_over_the_environment_and_that_over_the_file(
    shell: Shell, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPUTECTL_TRANSPORT_URL", "rabbit://in-the-environment/")
    shell("list", options=("--config-file", config))
    shell("list", "--host", "node7", "--rpc-timeout", "3", options=("--transport-url", "rabbit://given/"))
    assert [connection.transport_url for connection in shell.connections] == [
        "rabbit://in-the-environment/",
        "rabbit://given/",
    ]
    assert (shell.connections[1].host, shell.connections[1].timeout) == ("node7", 3.0)


def test_no_broker_is_named(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "empty.conf"
    path.write_text("[DEFAULT]\n")
    run = shell("list", options=("--config-file", str(path)))
    assert run.status == 2
    assert str(path) in run.stderr
    assert "--transport-url" in run.advice


@pytest.mark.parametrize("content", [None, "no section\n", "[DEFAULT]\nhost = not a host name\n"])
def test_a_configuration_file_that_cannot_be_used(shell: Shell, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "bad.conf"
    if content is not None:
        path.write_text(content)
    run = shell("list", options=("--config-file", str(path)))
    assert run.status == 2
    assert run.stderr.startswith(f"computectl: --config-file {path}: ")
    assert len(run.stderr.splitlines()) == 2


def test_a_broker_that_is_not_there(shell: Shell, config: str) -> None:
    shell.client.raises = HostError("broker in-the-file:5672 cannot be reached: connection refused")
    run = shell("list", options=("--config-file", config))
    assert run.status == 1
    assert "in-the-file:5672" in run.stderr
    assert f"transport_url in {config}" in run.advice
    assert "rabbitmqctl status" in run.advice


def test_advice_names_the_host_that_was_asked(shell: Shell, config: str) -> None:
    run = shell("show", "nobody", options=("--config-file", config, "--host", "node7"))
    assert run.advice == f"computectl --config-file {config} --host node7 list"


def test_the_overview_names_every_command(shell: Shell) -> None:
    overview = shell("--help")
    assert overview.status == 0
    for name in ("boot", "operation list", "complete", "source <(computectl complete)"):
        assert name in overview.stdout
    assert shell("help").stdout == overview.stdout


def test_no_command_is_a_usage_error(shell: Shell) -> None:
    run = shell()
    assert run.status == 2
    assert "Instances:" in run.stdout


def test_an_unknown_command(shell: Shell) -> None:
    run = shell("bot")
    assert run.status == 2
    assert "boot" in run.stdout


COMMANDS = (
    "boot", "list", "show", "start", "stop", "reboot", "pause", "unpause", "suspend", "resume", "terminate",
    "console", "diagnostics", "record", "evacuate", "host show", "operation list", "operation show", "help", "complete",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(shell: Shell, command: str) -> None:
    by_command, by_option = shell("help", *command.split()), shell(*command.split(), "--help")
    assert by_command.status == by_option.status == 0
    assert by_command.stdout == by_option.stdout
    assert f"  computectl {command.partition(' ')[0]}" in by_command.stdout.partition("examples:\n")[2]


def test_completion_knows_commands_and_options(shell: Shell) -> None:
    script = shell("complete").stdout
    assert "complete -F _computectl computectl" in script
    assert "--image-checksum" in script


def test_help_does_not_import_the_messaging_library() -> None:
    program = (
        "import sys; from compute_agent.cli.computectl import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'oslo_messaging', 'oslo_config', 'cmd2'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=30)
