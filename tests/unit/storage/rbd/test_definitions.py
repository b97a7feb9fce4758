from __future__ import annotations

from pathlib import Path

from compute_agent.storage.rbd import abi
from compute_agent.storage.rbd.definitions import generate


def test_the_module_is_made_from_the_definitions(tmp_path: Path) -> None:
    generate(tmp_path / "abi.py")
    assert Path(abi.__file__).read_text() == (tmp_path / "abi.py").read_text(), "run `make generate`"
