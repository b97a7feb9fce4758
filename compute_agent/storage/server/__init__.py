"""Block servers: disks that a guest's process may not open itself, served to it by a process that may do no more."""
