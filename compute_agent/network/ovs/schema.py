"""The part of Open vSwitch's database schema that the agent uses.

It is written down here, and not asked of the switch, because the library needs it before it connects, and
parsing the whole of it takes the library a tenth of a second. These columns are the same in every release since 2.6.
"""

from __future__ import annotations

_NAME = {"type": "string", "mutable": False}
_INTEGER = {"type": "integer"}
_OPTIONAL_INTEGER = {"type": {"key": "integer", "min": 0, "max": 1}}
_OPTIONAL_TEXT = {"type": {"key": "string", "min": 0, "max": 1}}
_TEXT_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}


def _references(table: str, at_least: int) -> dict[str, object]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": at_least, "max": "unlimited"}}


def vswitch_schema() -> dict[str, object]:
    """A fresh copy, as JSON: the library keeps and changes what it is given."""
    return {
        "name": "Open_vSwitch",
        "tables": {
            "Open_vSwitch": {"isRoot": True, "maxRows": 1, "columns": {"cur_cfg": _INTEGER, "next_cfg": _INTEGER}},
            "Bridge": {"columns": {"name": _NAME, "ports": _references("Port", 0)}},
            "Port": {"columns": {"name": _NAME, "interfaces": _references("Interface", 1), "tag": _OPTIONAL_INTEGER}},
            "Interface": {
                "columns": {
                    "name": _NAME,
                    "external_ids": _TEXT_MAP,
                    "mtu_request": _OPTIONAL_INTEGER,
                    "ofport": _OPTIONAL_INTEGER,
                    "error": _OPTIONAL_TEXT,
                }
            },
        },
    }
