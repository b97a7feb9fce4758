"""The CPU that several hosts can give their guests, so that these can move from each to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compute_agent.instance.view import CpuView


class NoBaseline(Exception):
    """There is none; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The richest model that all have, and what all have besides."""

    model: str
    features: list[str]
    unused: Mapping[str, list[str]]
    """By host: what its guests do without."""

    @property
    def cpu_model(self) -> str:
        """For the configuration."""
        return ",".join([self.model, *(f"+{feature}" for feature in self.features)])


def find_baseline(cpus: Mapping[str, CpuView]) -> Baseline:
    """:raises NoBaseline: the hosts have too little in common."""
    _require_alike("vendor", {host: cpu.vendor for host, cpu in cpus.items()})
    emulating = [host for host, cpu in cpus.items() if cpu.accelerator != "kvm"]
    if emulating:
        raise NoBaseline(f"without KVM no guest moves while it runs: {', '.join(emulating)}")
    common = frozenset.intersection(*(frozenset(cpu.features) for cpu in cpus.values()))
    models = _common_models(cpus)
    if not models:
        raise NoBaseline("there is no model of which all hosts have everything")
    model = max(sorted(models), key=lambda name: len(models[name]))
    chosen = models[model] | common
    return Baseline(
        model=model,
        features=sorted(common - models[model]),
        unused={host: sorted(frozenset(cpu.features) - chosen) for host, cpu in cpus.items()},
    )


def _common_models(cpus: Mapping[str, CpuView]) -> dict[str, frozenset[str]]:
    """Those that are the same everywhere: what a model has may differ between versions of QEMU."""
    first, *others = cpus.values()
    return {
        name: frozenset(features)
        for name, features in first.models.items()
        if all(frozenset(other.models.get(name, ())) == frozenset(features) for other in others)
    }


def _require_alike(what: str, values: Mapping[str, str]) -> None:
    if len(set(values.values())) > 1:
        told = ", ".join(f"{host} has {value}" for host, value in values.items())
        raise NoBaseline(f"guests do not move between CPUs of one {what} and another: {told}")
