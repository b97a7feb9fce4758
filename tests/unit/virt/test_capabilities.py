"""What a QEMU without a machine answers is read as a whole, however slowly."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.errors import HostError
from compute_agent.virt.qemu.capabilities import ask
from compute_agent.virt.settings import VirtSettings

_IN_A_HURRY = """\
#!{python} -S
import json, os, sys
questions = sys.stdin.read().splitlines()[:{answered}]
os.set_blocking(1, False)
os.write(1, "".join(json.dumps({{"return": "x" * 100_000}}) + "\\n" for _ in questions).encode())
"""
"""It quits with what was not taken from it at once, as QEMU does."""


def _with_hurried_qemu(settings: VirtSettings, path: Path, answered: int) -> VirtSettings:
    path.write_text(_IN_A_HURRY.format(python=sys.executable, answered=answered))
    path.chmod(0o755)
    return replace(settings, qemu_binary=str(path))


def test_answers_that_nobody_reads_at_once_are_not_lost(tmp_path: Path, settings: VirtSettings) -> None:
    answers = ask(_with_hurried_qemu(settings, tmp_path / "qemu", 5), [("query-cpu-model-expansion", {})] * 3)
    assert [len(answer) for answer in answers] == [100_000] * 3


def test_questions_without_an_answer_are_told(tmp_path: Path, settings: VirtSettings) -> None:
    with pytest.raises(HostError, match="answers 1 of 3 questions: query-version, query-machines"):
        ask(
            _with_hurried_qemu(settings, tmp_path / "qemu", 3),
            [("query-version", {}), ("query-machines", {}), ("query-version", {})],
        )
