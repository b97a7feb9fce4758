"""image list, image prune."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from compute_agent.cli.commands.base import ListCommand
from compute_agent.cli.views import IMAGE_COLUMNS, image_row


class ImageList(ListCommand):
    """List what the image cache of a host holds, what was used longest ago first."""

    examples = "  computectl image list\n  computectl --host node2 image list -f json"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Ask the host."""
        return IMAGE_COLUMNS, [image_row(image) for image in self.client.list_images()]


class ImagePrune(ListCommand):
    """Remove the images from a host's cache that nobody uses, and list them. What is needed again is fetched again."""

    examples = "  computectl image prune\n  computectl --host node2 image prune -f value -c size"

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[object]]:
        """Have the host do it."""
        return IMAGE_COLUMNS, [image_row(image) for image in self.client.prune_images()]
