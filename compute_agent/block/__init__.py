"""Disks that a process has open: what QEMU and its storage daemon do with them alike, asked for over QMP."""
