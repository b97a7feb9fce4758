"""The kernel module that runs guests, as /sys shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compute_agent.host.cpu import Processor


@dataclass(frozen=True, slots=True)
class Technology:
    """What a vendor's processor runs guests with."""

    flag: str
    """The processor's feature, as in /proc/cpuinfo."""
    module: str
    nested_paging: str
    """The vendor's name for it; small letters make it the flag and the module's parameter."""


_AMD = Technology("svm", "kvm_amd", "NPT")
_INTEL = Technology("vmx", "kvm_intel", "EPT")


def technology_of(processor: Processor) -> Technology | None:
    """None: it shows none."""
    return next((one for one in (_AMD, _INTEL) if one.flag in processor.flags), None)


class Module:
    """A loaded module. One that is neither AMD's nor Intel's does without the processor's help."""

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        """:param root: of /sys."""
        self.name = name
        self._parameters = root / "sys/module" / name / "parameters"
        self._technology = next((one for one in (_AMD, _INTEL) if one.module == name), None)

    @property
    def nested_paging(self) -> str | None:
        """``NPT`` or ``EPT`` where it is in use."""
        technology = self._technology
        return technology.nested_paging if technology and self._is_on(technology.nested_paging.lower()) else None

    @property
    def nested_guests(self) -> bool | None:
        """Whether a guest may run guests of its own; None: the module does not say."""
        return self._is_on("nested")

    def shortcomings(self, processor: Processor) -> Iterator[tuple[str, str]]:
        """What it does without, each with why."""
        if self._technology is None:
            yield "nested_paging", f"module {self.name} has none"
        elif self.nested_paging is None:
            yield "nested_paging", self._why_no_nested_paging(self._technology, processor)
        if self.nested_guests is False:
            yield "nested_guests", f"module {self.name} is loaded with nested=0"

    def _why_no_nested_paging(self, technology: Technology, processor: Processor) -> str:
        name = technology.nested_paging
        if name.lower() in processor.flags:
            return f"module {self.name} is loaded with {name.lower()}=0"
        return f"the processor shows no {name.lower()} flag"

    def _is_on(self, parameter: str) -> bool | None:
        try:
            return (self._parameters / parameter).read_text().strip() in ("Y", "1")
        except OSError:
            return None


def find_module(root: Path = Path("/")) -> Module | None:
    """The one that runs guests; None: none is loaded."""
    loaded = {path.name for path in (root / "sys/module").glob("kvm_*")}
    known = [one.module for one in (_AMD, _INTEL) if one.module in loaded]
    names = [*known, *sorted(loaded)]
    return Module(names[0], root) if names else None
