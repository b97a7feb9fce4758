"""Which hypervisor a new instance gets, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from compute_agent.errors import HostError, InvalidMessage
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import Instance

Configured = Literal["auto", "vmm", "qemu"]

_SPEC, _PROPERTY = "hw:hypervisor", "hw_hypervisor"
"""Of a flavor, and of an image."""
_AUTO = "[virt] hypervisor is auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """The hypervisor, and why it is that one."""

    name: HypervisorName
    reason: str


def choose(instance: Instance, configured: Configured, check_vmm: Callable[[Instance], None]) -> Choice:
    """What the flavor or an image wants, else what is configured; `check_vmm` raises what is in the way of ``vmm``.

    :raises InvalidMessage: one that there is not is wanted, or two want different ones; names the (second) field.
    :raises HostError: one is wanted that this host is not to use.
    """
    wishes = list(_wishes(instance))
    if not wishes:
        return _choose_unasked(instance, configured, check_vmm)
    (field, wanted), *others = wishes
    for other, name in others:
        if name != wanted:
            raise InvalidMessage(other, name, f"{field} is {wanted}")
    if configured == "qemu" and wanted != "qemu":
        raise HostError(f"{field} is {wanted}, but here [virt] hypervisor is qemu")
    return Choice(wanted, f"{field} is {wanted}")


def explain_unasked(configured: Configured, problem: object) -> Choice:
    """What most instances get for which nobody wants anything; `problem`: of ``vmm`` on this host."""
    if configured != "auto":
        return Choice(configured, f"[virt] hypervisor is {configured}")
    if problem is not None:
        return Choice("qemu", f"{_AUTO}, and vmm cannot run guests here: {problem}")
    return Choice("vmm", f"{_AUTO}: vmm for a kernel that is booted directly and needs no more than vmm has, else qemu")


def _wishes(instance: Instance) -> Iterator[tuple[str, HypervisorName]]:
    """Each with the field that has it."""
    specs = instance.flavor.extra_specs
    found = {f"instance.flavor.extra_specs[{_SPEC!r}]": specs.get(_SPEC)}
    for index, device in enumerate(instance.block_devices):
        properties = device.image.properties if device.image else {}
        found[f"instance.block_devices[{index}].image.properties[{_PROPERTY!r}]"] = properties.get(_PROPERTY)
    for field, value in found.items():
        if value is not None:
            yield field, _read(field, value)


def _read(field: str, value: str) -> HypervisorName:
    names: tuple[HypervisorName, ...] = get_args(HypervisorName)
    for name in names:
        if name == value:
            return name
    raise InvalidMessage(field, value, f"must be {' or '.join(names)}")


def _choose_unasked(instance: Instance, configured: Configured, check_vmm: Callable[[Instance], None]) -> Choice:
    if configured != "auto":
        return explain_unasked(configured, None)
    if instance.direct_boot is None:
        return Choice("qemu", f"{_AUTO}, and what a disk boots may want a screen or UEFI, which vmm has not")
    try:
        check_vmm(instance)
    except (HostError, InvalidMessage) as error:
        return Choice("qemu", f"{_AUTO}, and this is in the way of vmm: {error}")
    return Choice("vmm", f"{_AUTO}, and vmm has all that is ordered")
