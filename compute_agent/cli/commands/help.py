"""help, complete."""

from __future__ import annotations

import argparse

from cliff.complete import CompleteCommand
from cliff.help import HelpCommand

from compute_agent.cli.commands.base import ComputeCommand


class Help(ComputeCommand, HelpCommand):
    """Explain a command, with examples."""

    synopsis = "[COMMAND]"
    examples = "  computectl help boot\n  computectl help operation list"

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Of all commands there is a list."""
        if parsed_args.cmd:
            return super().take_action(parsed_args)
        self.app.print_overview()
        return 0


class Complete(ComputeCommand, CompleteCommand):
    """Print what makes the shell complete commands and options."""

    examples = (
        "  source <(computectl complete)                                             # this shell\n"
        "  computectl complete > /usr/share/bash-completion/completions/computectl   # every shell from now on\n\n"
        "Both need the package bash-completion."
    )
