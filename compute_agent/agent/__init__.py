"""What the agent does: operations as journaled steps, recovery after a crash, the reconciler."""
