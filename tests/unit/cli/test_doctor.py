"""computectl doctor: its lines and its exit status. What it finds is another matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent.cli import examination
from compute_agent.doctor.finding import Finding, failure, ok, warning
from tests.unit.cli.conftest import Shell

OK = ok("kernel", "Linux 6.1.0, x86_64")
WARNING = warning("iommu", "off", "kernel argument intel_iommu=on")
FAILURE = failure("openvswitch", "no database", "systemctl restart openvswitch-switch")


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found on this node."""
    findings: list[Finding] = []

    def examine_node(config_file: Path) -> list[Finding]:
        assert config_file == Path("/etc/compute-agent/compute-agent.conf")
        return findings

    monkeypatch.setattr(examination, "examine_node", examine_node)
    return findings


def test_a_line_a_check_and_below_it_what_mends_it(shell: Shell, findings: list[Finding]) -> None:
    findings += [OK, WARNING, FAILURE]
    run = shell("doctor")
    assert [line.split(maxsplit=2) for line in run.stdout.splitlines()] == [
        ["ok", "kernel", "Linux 6.1.0, x86_64"],
        ["warning", "iommu", "off"],
        ["→", "kernel", "argument intel_iommu=on"],
        ["failure", "openvswitch", "no database"],
        ["→", "systemctl", "restart openvswitch-switch"],
    ]
    assert len({line.find(text) for line, text in zip(run.stdout.splitlines()[:2], ("Linux", "off"), strict=True)}) == 1


@pytest.mark.parametrize(
    ("found", "status"), [([OK], 0), ([OK, WARNING], 0), ([OK, FAILURE, WARNING], 1), ([FAILURE], 1)]
)
@pytest.mark.parametrize("format_", ["report", "json", "value"])
def test_the_exit_status_tells_whether_something_does_not_work(
    shell: Shell, findings: list[Finding], found: list[Finding], status: int, format_: str
) -> None:
    findings += found
    assert shell("doctor", "-f", format_).status == status


def test_as_data(shell: Shell, findings: list[Finding]) -> None:
    findings += [OK, FAILURE]
    assert shell("doctor", "-f", "json").json == [
        {"status": "ok", "check": "kernel", "found": "Linux 6.1.0, x86_64", "remedy": ""},
        {
            "status": "failure",
            "check": "openvswitch",
            "found": "no database",
            "remedy": "systemctl restart openvswitch-switch",
        },
    ]


def test_some_columns(shell: Shell, findings: list[Finding]) -> None:
    findings += [OK, FAILURE]
    assert shell("doctor", "-c", "check", "-c", "status").stdout.split() == ["ok", "kernel", "failure", "openvswitch"]


def test_it_asks_no_agent(shell: Shell, findings: list[Finding]) -> None:
    findings.append(OK)
    assert shell("doctor", options=()).status == 0
    assert shell.connections == []
