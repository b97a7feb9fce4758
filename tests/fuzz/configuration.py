"""compute-agent.conf as somebody has spoiled it: each mistake is told by its option, and the doctor reads the rest."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from unittest import mock

from oslo_config import cfg

from compute_agent.conf import file as file_options
from compute_agent.conf import loading, options
from compute_agent.conf.examining import examine
from compute_agent.errors import InvalidConfiguration
from tests.fuzz.mutation import TEXTS, spoil_bytes
from tests.fuzz.target import Case, Check, Target

_SAMPLE = (Path(__file__).parents[2] / "etc" / "compute-agent.conf").read_text()
_OPTION = re.compile(r"^#?([a-z_0-9]+) = ?(.*)$", re.MULTILINE)
_SECTION = re.compile(r"^\[.*\]$", re.MULTILINE)
_VALUES = (
    *(one for one in TEXTS if one != "\ud800"),
    *(
        "-1",
        "0",
        "99999999999999999999",
        "1e999",
        "nan",
        "inf",
        "true",
        "auto",
        "$host",
        "${agent.state_dir}/x",
        "$none",
    ),
    *(
        "${virt.state_dir}",
        "$$",
        "$",
        "${",
        "rabbit://u:p@[::1]:1/v",
        "rabbit://",
        "://",
        "relative/path",
        "a,b,c",
        "[x",
    ),
)


def a_file(random: Random) -> bytes:
    """Some options of the sample with other values, and more damage in some files."""
    lines = []
    for line in _SAMPLE.splitlines():
        if _SECTION.match(line):
            lines.append(line)
        elif (option := _OPTION.match(line)) and random.random() < 0.04:
            lines.append(f"{option[1]} = {random.choice((option[2], *_VALUES))}")
    content = "\n".join(lines).encode() + b"\n"
    return spoil_bytes(random, content, 4) if random.random() < 0.5 else content


@contextmanager
def _open() -> Iterator[Check]:
    with (
        tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="fuzz-") as file,
        mock.patch.object(loading, "check_directories"),  # it would make them, wherever the case has them
        mock.patch.object(options, "known_options", cache(options.known_options)),
        mock.patch.object(file_options, "known_options", cache(options.known_options)),
    ):
        path = Path(file.name)

        def check(case: Case) -> None:
            content = a_file(case.random)
            case.show(content)
            path.write_bytes(content)
            _load(path)
            for mistake in examine(path).mistakes:
                _require_clear(mistake)

        yield check


def _load(path: Path) -> None:
    try:
        loading.load(["--config-file", str(path)], cfg.ConfigOpts())
    except InvalidConfiguration as mistake:
        _require_clear(mistake)


def _require_clear(mistake: InvalidConfiguration) -> None:
    assert mistake.field
    assert str(mistake).isprintable(), repr(str(mistake))


TARGET = Target(name="configuration", open=_open, weight=0.2, deadline=10.0)
