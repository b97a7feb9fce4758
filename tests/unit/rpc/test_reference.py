"""docs/rpc.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from compute_agent.rpc.messages import VERBS
from compute_agent.rpc.reference import render

PAGE = Path(__file__).parents[3] / "docs" / "rpc.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(), "python -m compute_agent.rpc.reference > docs/rpc.md"


def test_the_page_has_every_verb() -> None:
    text = PAGE.read_text()
    assert [verb for verb in VERBS if f"### {verb}\n" not in text] == []
