"""Snapshots of disks in files: each adds an overlay, which takes what is written from then on."""
