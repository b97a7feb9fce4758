"""doctor."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

from cliff.formatters.base import ListFormatter
from stevedore import ExtensionManager
from stevedore.extension import Extension

from compute_agent.cli.commands.base import ListCommand
from compute_agent.cli.failure import ExitStatus
from compute_agent.cli.report import Report
from compute_agent.cli.threads import forbid_eventlet
from compute_agent.conf import DEFAULT_CONFIG_FILE

_COLUMNS = ("status", "check", "found", "remedy")
_REPORT = "report"
_ENTRY_POINT = EntryPoint(_REPORT, "compute_agent.cli.report:Report", "cliff.formatter.list")


class Doctor(ListCommand):
    """Check this node as one would before production.

    It looks at the machine that it runs on, with the configuration file of its agent (options that name a broker or
    a host have no meaning here). The agent need not run, and nothing is changed. Each line is ok, a warning (guests
    run, but not as they should) or a failure; the last two say which command or setting mends it.
    Exit status: 0 no failure, 1 a failure.
    """

    examples = (
        "  computectl doctor\n"
        "  computectl --config-file /etc/compute-agent/compute-agent.conf doctor -f json\n"
        "  computectl doctor -f value -c status -c check | grep -v ^ok"
    )
    _status = 0

    @property
    def formatter_default(self) -> str:
        """Lines: a table would break them."""
        return _REPORT

    def _load_formatter_plugins(self) -> ExtensionManager[ListFormatter]:
        """cliff's, and our own: installed as a plug-in it would be offered by every program that uses cliff."""
        plugins = super()._load_formatter_plugins()
        plugins.extensions.append(Extension(_REPORT, _ENTRY_POINT, Report, Report()))
        return plugins

    def run(self, parsed_args: argparse.Namespace) -> int:
        """The exit status tells whether there is a failure."""
        return super().run(parsed_args) or self._status

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Examine this machine."""
        forbid_eventlet()
        # It brings oslo.messaging, kombu, ovs: 0.4 s that help does without.
        from compute_agent.cli.examination import examine_node  # noqa: PLC0415

        findings = examine_node(Path(self.app.options.config_file or DEFAULT_CONFIG_FILE))
        self._status = ExitStatus.FAILED if any(one.status == "failure" for one in findings) else 0
        return _COLUMNS, [(str(one.status), one.check, one.found, one.remedy) for one in findings]
