"""Whether guests can write to files of another host: their processes are handed them open, and have no rights there.

Linux's NFS client writes in the name of whoever has opened the file, which is the agent. Holes, which NFS has since
4.2, it makes in the name of the process that calls fallocate(2): QEMU and its storage daemon do that in the middle of
writes to a qcow2 file, and take the server's refusal for a failed write. By earlier versions they hear that there are
no holes, and write zeroes.

Sources: Linux, fs/nfs/nfs42proc.c (_nfs42_proc_fallocate); RFC 7862, 15.1 and 15.4; QEMU, block/file-posix.c.
"""

from __future__ import annotations

from pathlib import Path

from compute_agent.host.mounts import Mount, mount_of

REMEDY = "mount it with vers=4.1"


def refuses_guests(mount: Mount) -> bool:
    """Guests' disks cannot be there."""
    return mount.file_system == "nfs4" and "vers=4.2" in mount.options


def why_not_written(path: Path) -> str | None:
    """Why guests could not write to a file there, if they could not."""
    mount = mount_of(path)
    if refuses_guests(mount):
        return f"{mount.point} is mounted by NFS 4.2, by which guests cannot make holes in files: {REMEDY}"
    return None
