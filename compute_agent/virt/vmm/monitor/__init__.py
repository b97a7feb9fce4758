"""The monitor of a machine: QMP, as QEMU speaks it, so that the same driver and tools serve both."""
