"""The arguments of a qemu-storage-daemon. It starts without any disk: all come through its monitor."""

from __future__ import annotations


def command_line(program: str, *, monitor: int, nbd: int) -> list[str]:
    """`monitor` and `nbd` are inherited descriptors of listening sockets."""
    return [
        program,
        *("--chardev", f"socket,id=monitor,fd={monitor},server=on,wait=off"),
        *("--monitor", "chardev=monitor"),
        *("--nbd-server", f"addr.type=fd,addr.str={nbd}"),
    ]
