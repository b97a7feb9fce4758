"""Looking into disks that no guest has open, and putting files into them, with libguestfs.

libguestfs runs the file systems' code in a small virtual machine of its own, the appliance; `appliance` confines that
machine's process, `workspace` gives it a copy of the disk to work on, `report` and `changes` say what to do with it.
"""
