"""Virtio devices on PCI, version 1 only; who serves their queues is elsewhere wherever it can be."""
