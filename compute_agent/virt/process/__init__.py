"""What hypervisors share whose guests are a process each with a monitor that speaks QMP: `qemu`, and `vmm`."""
