"""In a virtual host: a plain QEMU q35 under KVM, with vhost-net and vhost-user-blk, as a person would start it.

The guest's disk is a qcow2 file in a qemu-storage-daemon's hands. All of it runs as root, confined by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from laboratory.host import VirtualHost
from sandbox import images

_DIRECTORY = "/var/lib/compute-agent/by-hand"
_DISK = f"{_DIRECTORY}/disk.qcow2"
_DISK_SOCKET = f"{_DIRECTORY}/disk.sock"
CONSOLE = f"{_DIRECTORY}/console.sock"
_PID_FILE = f"{_DIRECTORY}/qemu.pid"
_TAP = "hand0"


@dataclass(frozen=True, kw_only=True)
class MachineByHand:
    """What it needs is there until the host ends; `start` it as often as it has been killed."""

    host: VirtualHost
    address: str
    memory_mb: int

    def prepare(self) -> None:
        """Its disk, that disk's server and its tap."""
        self.host.run("mkdir", "-p", _DIRECTORY)
        self.host.run("qemu-img", "create", "-q", "-f", "qcow2", _DISK, "1G")
        self.host.run(*_server())
        self.host.run("ip", "tuntap", "add", _TAP, "mode", "tap", "vnet_hdr")
        self.host.run("ip", "link", "set", _TAP, "up")
        self.host.run("ovs-vsctl", "add-port", "br-int", _TAP)

    @property
    def command(self) -> list[str]:
        """Runs in the foreground."""
        memory = f"memory-backend-memfd,id=memory,size={self.memory_mb}M,share=on"
        boot = f"console=ttyS0 quiet ip0={self.address}/24"
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
            *("-machine", "q35,accel=kvm,memory-backend=memory", "-cpu", "host", "-smp", "1"),
            *("-m", f"{self.memory_mb}", "-object", memory),
            *("-chardev", f"socket,id=console,path={CONSOLE},server=on,wait=off", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=disk,path={_DISK_SOCKET}", "-device", "vhost-user-blk-pci,chardev=disk"),
            *("-netdev", f"tap,id=net,ifname={_TAP},script=no,downscript=no,vhost=on"),
            *("-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"),
            *("-kernel", str(images.kernel()), "-initrd", str(images.ramdisk()), "-append", boot),
        ]

    def start(self) -> int:
        """In the background; its process's number."""
        self.host.run(*self.command, "-daemonize", "-pidfile", _PID_FILE)
        return int(self.host.run("cat", _PID_FILE))


def _server() -> list[str]:
    export = f"type=vhost-user-blk,id=disk,node-name=disk,writable=on,addr.type=unix,addr.path={_DISK_SOCKET}"
    return [
        *("qemu-storage-daemon", "--daemonize"),
        *("--blockdev", f"file,node-name=file,filename={_DISK}", "--blockdev", "qcow2,node-name=disk,file=file"),
        *("--export", export),
    ]
