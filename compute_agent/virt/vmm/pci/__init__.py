"""PCI, as a guest finds its devices: one bus, no interrupt pins (MSI-X only)."""
