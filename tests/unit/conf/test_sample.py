"""etc/compute-agent.conf says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from oslo_config import cfg, generator

from compute_agent.conf.loading import load

ETC = Path(__file__).parents[3] / "etc"


def test_the_sample_is_current(tmp_path: Path) -> None:
    made = tmp_path / "compute-agent.conf"
    generator.main(["--config-file", str(ETC / "config-generator.conf"), "--output-file", str(made)])
    assert (ETC / "compute-agent.conf").read_text() == made.read_text(), "make generate"


def test_every_line_of_the_sample_is_understood(tmp_path: Path) -> None:
    sample = (ETC / "compute-agent.conf").read_text()
    options = re.findall(r"^(?:\[.*|#\w.* = [^<\n]*)$", sample, re.MULTILINE)
    text = "\n".join(option.removeprefix("#") for option in options)
    text = text.replace("/var/lib/compute-agent", f"{tmp_path}/lib").replace("/run/compute-agent", f"{tmp_path}/run")
    path = tmp_path / "compute-agent.conf"
    path.write_text(text)
    configuration = load(["--config-file", str(path)], cfg.ConfigOpts())
    assert configuration.agent.state_dir == tmp_path / "lib"
    assert configuration.virt.run_dir == tmp_path / "run" / "guests"
