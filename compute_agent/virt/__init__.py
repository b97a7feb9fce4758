"""Hypervisors: the contract, and one package for each that keeps it."""
