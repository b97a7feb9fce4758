"""/dev/kvm through a compiled module: what this host's KVM is, whether it works, and what our own machine needs."""
