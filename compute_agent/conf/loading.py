"""From compute-agent.conf to the rooms' settings, or one clear error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oslo_config import cfg

from compute_agent import __version__
from compute_agent.agent.settings import AgentSettings
from compute_agent.conf import options
from compute_agent.conf.agent import agent_settings
from compute_agent.conf.directories import check_directories
from compute_agent.conf.network import network_settings
from compute_agent.conf.storage import storage_settings
from compute_agent.conf.virt import virt_settings
from compute_agent.errors import InvalidConfiguration
from compute_agent.network.settings import NetworkSettings
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.settings import VirtSettings

DEFAULT_CONFIG_FILE = "/etc/compute-agent/compute-agent.conf"

_SECRET = {"transport_url"}
_HIDDEN = "a value that is not shown"


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
    _parse(argv, conf)
    for path in conf.config_file:
        _check_file(path, conf)
    agent = agent_settings(conf)
    configuration = Configuration(
        agent=agent,
        virt=virt_settings(conf),
        network=network_settings(conf, agent.host),
        storage=storage_settings(conf),
    )
    check_directories(conf)
    return configuration


def _parse(argv: Sequence[str], conf: cfg.ConfigOpts) -> None:
    try:
        conf(
            list(argv),
            project="compute-agent",
            version=__version__,
            default_config_files=[DEFAULT_CONFIG_FILE],
            default_config_dirs=[],
        )
    except cfg.ConfigFilesNotFoundError as error:
        raise InvalidConfiguration("--config-file", ", ".join(error.config_files), "there is no such file") from None
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise InvalidConfiguration("--config-file", ", ".join(error.config_files), "may not be read") from None
    except cfg.ConfigFileParseError as error:
        raise InvalidConfiguration("--config-file", error.config_file, str(error.msg)) from None


def _check_file(path: str, conf: cfg.ConfigOpts) -> None:
    """Refuse unknown options, which oslo.config ignores, and bad values, which it finds when they are used."""
    known = options.known_names()
    for section, name, value in _read(path):
        if section not in known:
            raise InvalidConfiguration(f"[{section}]", path, "there is no such section")
        if name not in known[section]:
            raise InvalidConfiguration(f"{section}.{name}", _show(name, value), "there is no such option")
        try:
            _ = conf[name] if section == "DEFAULT" else conf[section][name]
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
            continue  # a deprecated name: it has been read under its new one
        except cfg.ConfigFileValueError as error:
            reason = str(error).rpartition(" is not valid: ")[2]
            raise InvalidConfiguration(f"{section}.{name}", _show(name, value), reason) from None
        except cfg.TemplateSubstitutionError as error:
            raise InvalidConfiguration(f"{section}.{name}", _show(name, value), str(error)) from None


def _read(path: str) -> Iterator[tuple[str, str, str]]:
    """All options that stand in the file: section, name and value."""
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(path, sections).parse()
    for section, found in sections.items():
        for name, values in found.items():
            yield section if section == "DEFAULT" else section.lower(), name.replace("-", "_"), values[-1]


def _show(name: str, value: str) -> str:
    return _HIDDEN if name in _SECRET or "password" in name else value
