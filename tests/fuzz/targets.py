"""All of them, by name."""

from __future__ import annotations

from tests.fuzz import messages
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {module.TARGET.name: module.TARGET for module in (messages,)}
