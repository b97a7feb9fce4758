"""Disks in Ceph: what a cluster is asked to do with them, by a worker process that may be killed at any time."""
