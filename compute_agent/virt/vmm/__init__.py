"""The hypervisor `vmm`: a machine of our own on /dev/kvm, a process for each guest."""
