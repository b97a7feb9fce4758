"""Disks of stopped instances that move to another host."""
