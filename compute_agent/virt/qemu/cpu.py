"""What CPUs this host can give its guests: features and models, under QEMU's names. Found out by asking QEMU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compute_agent.host.cpu import read_processor
from compute_agent.instance.view import CpuView
from compute_agent.virt.qemu.accelerator import Accelerator
from compute_agent.virt.qemu.capabilities import Command, ask
from compute_agent.virt.settings import VirtSettings

_ALL_OF_IT = {"kvm": "host", "tcg": "max"}


@dataclass(frozen=True, slots=True)
class CpuSupport:
    """A wish is what an option ``-cpu`` takes: a model, with ``+feature`` for what it is to have besides."""

    view: CpuView

    def features_of(self, wish: str) -> frozenset[str]:
        """What a guest with such a CPU sees."""
        model, *more = wish.split(",")
        if model in _ALL_OF_IT.values():
            return frozenset(self.view.features)
        return frozenset(self.view.models.get(model, ())) | {one[1:] for one in more if one.startswith("+")}


def find_cpu_support(settings: VirtSettings, accelerator: Accelerator) -> CpuSupport:
    """Run QEMU twice without a machine: which models are there, and what each of them has.

    :raises HostError: QEMU does not run, or does not answer.
    """
    whole = _ALL_OF_IT[accelerator.name]
    (definitions,) = ask(settings, [("query-cpu-definitions", {})], accelerator.name)
    usable = sorted(one["name"] for one in definitions if _can_be_chosen(one))
    wholes, *each = ask(settings, [_expansion(name) for name in (whole, *usable)], accelerator.name)
    view = CpuView(
        vendor=read_processor().vendor,
        accelerator=accelerator.name,
        features=_features(wholes),
        models={name: _features(expanded) for name, expanded in zip(usable, each, strict=True)},
    )
    return CpuSupport(view)


def _can_be_chosen(definition: dict[str, Any]) -> bool:
    """All of it is here, and it stays the same with other versions of QEMU."""
    is_whole = definition.get("unavailable-features") == [] and definition["migration-safe"]
    return is_whole and "alias-of" not in definition and definition["name"] != "base"


def _expansion(model: str) -> Command:
    return "query-cpu-model-expansion", {"type": "static", "model": {"name": model}}


def _features(expanded: dict[str, Any]) -> list[str]:
    return sorted(name for name, value in expanded["model"]["props"].items() if value is True)
