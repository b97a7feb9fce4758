"""Guests' processes without anything to steal: a user, namespaces, a file system and a system call filter of their own.

The agent cannot prepare such a process itself: between fork and exec, a process with threads may not even allocate
memory. So a small process without threads, the fork server, does it (`server`), asked by the agent (`launcher`).
"""
