"""Disks: the contract, local qcow2, the image cache and the config drive."""
