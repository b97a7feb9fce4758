"""Where things lie in a guest's first MiB until its kernel has read them."""

from __future__ import annotations

PAGE = 4096
DESCRIPTORS = 0x500
"""Of segments."""
BOOT_PARAMS = 0x7000
START_INFO = 0x7000
"""Where a kernel asks for that instead."""
PAGE_TABLES = 0x9000
"""Three pages."""
COMMAND_LINE = 0x20000
LOW_MEMORY = range(0, 0x9FC00)
"""What a kernel may use of it, as PCs have had it since there was an EBDA."""
ACPI = range(0xE0000, 0x100000)
"""Reserved for the tables; a kernel without a boot loader's hint would look here too."""
HIGH_MEMORY = 0x100000
MAPPED = 1024**3
"""Bytes that the first page tables show."""
