"""The hypervisor driver `qemu`: one QEMU process a guest, driven over QMP."""
