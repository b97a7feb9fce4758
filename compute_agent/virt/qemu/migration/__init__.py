"""Live migration of QEMU guests, over their monitors."""
