"""Ports: the contract, and the Open vSwitch that keeps it."""
