"""From compute-agent.conf to the rooms' settings, or one clear error."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass

from oslo_config import cfg

from compute_agent import __version__
from compute_agent.agent.settings import AgentSettings
from compute_agent.conf import DEFAULT_CONFIG_FILE, file, options
from compute_agent.conf.agent import agent_settings
from compute_agent.conf.directories import check_directories
from compute_agent.conf.network import network_settings
from compute_agent.conf.storage import storage_settings
from compute_agent.conf.virt import virt_settings
from compute_agent.errors import InvalidConfiguration
from compute_agent.network.settings import NetworkSettings
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.settings import VirtSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What each room is told."""

    agent: AgentSettings
    virt: VirtSettings
    network: NetworkSettings
    storage: StorageSettings


def load(argv: Sequence[str], conf: cfg.ConfigOpts = cfg.CONF) -> Configuration:
    """Read the files that ``--config-file`` names, and make the directories.

    oslo.messaging and oslo.log find their options in `conf` afterwards.

    :raises InvalidConfiguration: names the option, its value and what is wrong.
    """
    options.register(conf)
    entries = [entry for path in _files(argv) for entry in file.read(path)]
    file.check(entries)
    parse(argv, conf)
    file.check_references(entries, conf)
    configuration = settings_of(conf)
    check_directories(conf)
    return configuration


def parse(argv: Sequence[str], conf: cfg.ConfigOpts, default_config_file: str | None = DEFAULT_CONFIG_FILE) -> None:
    """Have oslo.config read the command line, and the files that it names.

    :raises InvalidConfiguration: an option of a file that is also one of the command line has an unusable value.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            conf(
                list(argv),
                project="compute-agent",
                version=__version__,
                default_config_files=[default_config_file] if default_config_file else [],
                default_config_dirs=[],
            )
    except SystemExit:
        if found := _UNUSABLE.match(said.getvalue()):
            raise InvalidConfiguration(f"DEFAULT.{found[1]}", found[2].strip(), "has no such value") from None
        sys.stderr.write(said.getvalue())
        raise
    except (cfg.Error, ValueError, RecursionError) as error:
        raise InvalidConfiguration("--config-file", default_config_file or list(argv), str(error)) from None


_UNUSABLE = re.compile("argument --([a-z_]+): Invalid .* value: (.*)", re.DOTALL)
"""What oslo.config says before it ends the process."""


def settings_of(conf: cfg.ConfigOpts) -> Configuration:
    """Each room's settings."""
    agent = agent_settings(conf)
    return Configuration(
        agent=agent,
        virt=virt_settings(conf),
        network=network_settings(conf, agent.host),
        storage=storage_settings(conf),
    )


def _files(argv: Sequence[str]) -> list[str]:
    """What `argv` names, before oslo.config looks at the rest of it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-file", action="append")
    return parser.parse_known_args(argv)[0].config_file or [DEFAULT_CONFIG_FILE]
