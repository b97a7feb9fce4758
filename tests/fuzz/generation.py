"""Good values of any type that msgspec knows, made from the same annotations that decode them."""

from __future__ import annotations

import re._constants as sre
import re._parser
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import msgspec
from msgspec import inspect

UUIDS = tuple(f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(1, 5))
"""So few that messages mean the same things."""
_MOST = 3
"""Elements of a list or object, and repetitions in a pattern beyond the least."""
_ANY_TEXT = "abz059 _.,:;-=/\\\"'{}[]<>&#%!?éß\u2028😀"


def value_of(random: Random, wanted: Any) -> Any:
    """A value of the type, as plain JSON values."""
    return _make(random, _info(wanted))


@cache
def _info(wanted: Any) -> inspect.Type:
    return inspect.type_info(wanted)


def _make(random: Random, kind: inspect.Type) -> Any:
    return _MAKERS[type(kind)](random, kind)


def _number(random: Random, kind: Any) -> int:
    least, most = kind.ge if kind.ge is not None else -(2**31), kind.le if kind.le is not None else 2**31
    most = kind.lt - 1 if kind.lt is not None else most
    return random.choice((least, most, least + 1, random.randint(least, most), random.randint(least, most)))


def _text(random: Random, kind: Any) -> str:
    if kind.pattern is None:
        return "".join(random.choices(_ANY_TEXT, k=random.randint(kind.min_length or 0, kind.max_length or 12)))
    if kind.pattern.startswith("^[0-9a-f]{8}-") and random.random() < 0.8:
        return random.choice(UUIDS)
    return _matching(random, _parsed(kind.pattern))


def _list(random: Random, kind: Any) -> list[Any]:
    least = kind.min_length or 0
    return [
        _make(random, kind.item_type) for _ in range(random.randint(least, min(least + _MOST, kind.max_length or 9)))
    ]


def _object(random: Random, kind: Any) -> dict[Any, Any]:
    return {_make(random, kind.key_type): _make(random, kind.value_type) for _ in range(random.randint(0, _MOST))}


def _struct(random: Random, kind: Any) -> dict[str, Any]:
    made = {kind.tag_field: kind.tag} if kind.tag_field else {}
    for field in kind.fields:
        if field.required or random.random() < 0.5:
            made[field.encode_name] = _make(random, field.type)
    return made


_MAKERS: dict[type, Callable[[Random, Any], Any]] = {
    inspect.AnyType: lambda random, kind: random.choice((None, 1, "a", [], {})),
    inspect.CustomType: lambda random, kind: random.choice((None, 1, "a", [], {})),
    inspect.NoneType: lambda random, kind: None,
    inspect.BoolType: lambda random, kind: random.random() < 0.5,
    inspect.IntType: _number,
    inspect.FloatType: lambda random, kind: float(_number(random, kind)),
    inspect.StrType: _text,
    inspect.BytesType: lambda random, kind: random.choice(("", "AAAA", "/////w==")),
    inspect.LiteralType: lambda random, kind: random.choice(kind.values),
    inspect.EnumType: lambda random, kind: random.choice([one.value for one in kind.cls]),
    inspect.UnionType: lambda random, kind: _make(random, random.choice(kind.types)),
    inspect.ListType: _list,
    inspect.VarTupleType: _list,
    inspect.DictType: _object,
    inspect.StructType: _struct,
    inspect.Metadata: lambda random, kind: _make(random, kind.type),
}


@cache
def _parsed(pattern: str) -> Any:
    return re._parser.parse(pattern)


def _matching(random: Random, tree: Any) -> str:
    return "".join(_MATCHERS[operator](random, argument) for operator, argument in tree)


def _repeated(random: Random, argument: Any) -> str:
    least, most, tree = argument
    return "".join(_matching(random, tree) for _ in range(random.randint(least, min(int(most), least + 4 * _MOST))))


def _one_of(random: Random, choices: Any) -> str:
    if choices[0][0] is sre.NEGATE:
        allowed = [text for text in _ANY_TEXT if not re.match(_class_text(choices), text)]
        return random.choice(allowed)
    operator, argument = random.choice(choices)
    return chr(random.randint(*argument)) if operator is sre.RANGE else chr(argument)


def _class_text(choices: Any) -> str:
    """Of what a negated class excludes."""
    parts = {sre.RANGE: lambda ends: f"\\x{ends[0]:02x}-\\x{ends[1]:02x}", sre.LITERAL: lambda one: f"\\x{one:02x}"}
    parts[sre.CATEGORY] = lambda category: "\\s"
    return "[" + "".join(parts[operator](argument) for operator, argument in choices[1:]) + "]"


_MATCHERS: dict[Any, Callable[[Random, Any], str]] = {
    sre.AT: lambda random, argument: "",
    sre.ASSERT_NOT: lambda random, argument: "",
    sre.LITERAL: lambda random, argument: chr(argument),
    sre.IN: _one_of,
    sre.MAX_REPEAT: _repeated,
    sre.SUBPATTERN: lambda random, argument: _matching(random, argument[3]),
    sre.BRANCH: lambda random, argument: _matching(random, random.choice(argument[1])),
}


def convert(random: Random, wanted: Any) -> Any:
    """The same as an object of that type."""
    return msgspec.convert(value_of(random, wanted), wanted)
