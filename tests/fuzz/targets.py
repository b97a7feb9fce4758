"""All of them, by name."""

from __future__ import annotations

from tests.fuzz import (
    admission,
    command_line,
    config_drive,
    configuration,
    devices,
    guest_agent,
    images,
    journal,
    kernels,
    messages,
    monitor,
    qmp_reader,
)
from tests.fuzz.target import Target

_MODULES = (
    *(messages, admission, images, kernels, monitor, config_drive),
    *(command_line, journal, devices, configuration, qmp_reader, guest_agent),
)
TARGETS: dict[str, Target] = {module.TARGET.name: module.TARGET for module in _MODULES}
