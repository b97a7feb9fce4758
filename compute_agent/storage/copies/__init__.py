"""Copies of disks that outlive them: snapshots and backups, in files."""
