"""The programs' front doors: compute-agent (the service) and computectl (the operator's tool)."""
