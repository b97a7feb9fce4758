"""From the arguments of a call, as anybody may send them, to a checked message."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from compute_agent.errors import InvalidMessage, one_line
from compute_agent.instance.preparation import prepare
from compute_agent.rpc.messages import VERBS, Message

prepare(*VERBS.values())

T = TypeVar("T")

MAX_SIZE = 1024 * 1024
"""Bytes of JSON. Eight times the largest user data; enough for any instance."""

_LONGEST_SHOWN, _LONGEST_TEXT = 80, 255
_PLACE = re.compile(r"^(?P<reason>.*) - at `(?P<path>[^`]*)`$", re.DOTALL)
_FIELD = re.compile(r"^Object (?P<problem>contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def decode(verb: str, arguments: Mapping[str, object]) -> Message:
    """The message of one of `VERBS`.

    :raises InvalidMessage: names the field by its path, such as ``instance.ports[0].mtu``.
    """
    _check_size(arguments)
    return checked(arguments, VERBS[verb])


def checked(content: object, kind: type[T]) -> T:
    """Plain JSON data as one of our types.

    :raises InvalidMessage: as `decode`.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), content) from None


def _check_size(arguments: object) -> None:
    """Refuse what is too large, and what is not JSON although Python's parser takes it: NaN, half a character."""
    try:
        size = len(json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, TypeError) as error:
        raise InvalidMessage("message", type(arguments).__name__, f"is not JSON: {error}") from None
    except RecursionError:
        raise InvalidMessage("message", type(arguments).__name__, "is nested too deeply") from None
    if size > MAX_SIZE:
        raise InvalidMessage("message", f"{size} bytes", f"is larger than {MAX_SIZE} bytes")


def _explain(text: str, content: object) -> InvalidMessage:
    """msgspec's one line, taken apart: ``Expected `int` >= 1 - at `$.instance.flavor.vcpus```."""
    place = _PLACE.match(text.replace("`key` in ", "", 1))
    reason, path = (place["reason"], place["path"].removeprefix("$")) if place else (text, "")
    field = _FIELD.match(reason)
    if field:
        path += f".{field['name']}"
        reason = "unknown field" if field["problem"] == "contains unknown" else "required field is missing"
    return InvalidMessage(_line(path.removeprefix(".")) or "message", shown(_find(content, path)), _line(reason))


def _find(message: object, path: str) -> object:
    """What stands at ``.instance.ports[0].mtu``; None where nothing does, the object itself for ``[...]``."""
    for name, index in _STEP.findall(path.replace("[...]", "")):
        if name and isinstance(message, Mapping):
            message = message.get(name)
        elif index and isinstance(message, list) and int(index) < len(message):
            message = message[int(index)]
        else:
            return None
    return message


def _line(text: str) -> str:
    """Names and values that the sender chose may be in it."""
    text = one_line(text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def shown(value: object) -> object:
    """The value itself if it is small; what is long may hold a secret, and belongs neither on the wire nor in a log."""
    if isinstance(value, str) and (len(value) > _LONGEST_SHOWN or not _is_text(value)):
        return f"text of {len(value)} characters"
    if isinstance(value, Mapping):
        return f"object of {len(value)} fields"
    if isinstance(value, list):
        return f"list of {len(value)}"
    return value


def _is_text(value: str) -> bool:
    """False: there are halves of characters in it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
