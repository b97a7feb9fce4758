"""This machine: processes, capacity, what its kernel offers. Knows no instance."""
