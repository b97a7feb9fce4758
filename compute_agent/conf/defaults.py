"""The defaults of options are those of the rooms' settings: written once."""

from __future__ import annotations

import dataclasses
from typing import Any


def defaults_of(settings: type[Any]) -> dict[str, Any]:
    """The fields of a settings class that have a default."""
    return {
        field.name: field.default for field in dataclasses.fields(settings) if field.default is not dataclasses.MISSING
    }
