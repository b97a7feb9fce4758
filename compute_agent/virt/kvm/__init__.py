"""/dev/kvm through cffi: what this host's KVM is, and guests of a few bytes that show that it works."""
