"""A machine that moves to another host while it runs."""
