"""The config drive: what cloud-init reads at a guest's first boot, on a small ISO 9660 disk."""
