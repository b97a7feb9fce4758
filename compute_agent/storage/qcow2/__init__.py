"""Disks as local qcow2 overlays on cached images."""
