"""What the worker process does not do although the cluster would, or cannot because of others."""

from __future__ import annotations


class Refused(Exception):
    """It is not done, for the reason given; nothing was changed."""


class InUse(Refused):
    """It is not done because somebody uses the image."""
