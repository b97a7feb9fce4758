"""Ports in Open vSwitch: one thread owns the OVSDB connection."""
