"""Section [virt]."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from compute_agent.conf.defaults import defaults_of
from compute_agent.virt.settings import GUEST_UIDS, VirtSettings

_DEFAULTS = defaults_of(VirtSettings)

GROUP = cfg.OptGroup("virt", help="Guests and the QEMU processes that run them.")

OPTIONS = [
    cfg.StrOpt(
        "state_dir",
        default="${agent.state_dir}/guests",
        help="Console logs, logs of guests' processes and the saved memory of suspended guests, one directory a guest. "
        "An absolute path.",
    ),
    cfg.StrOpt(
        "run_dir",
        default="${agent.run_dir}/guests",
        help="Sockets, one directory a guest. An absolute path, at most 60 bytes long or so.",
    ),
    cfg.BoolOpt(
        "confine_guests",
        default=_DEFAULTS["confine_guests"],
        help="Run each guest's process as a user of its own, without privileges, in namespaces and limits of its own. "
        "Needs root. False is for development.",
    ),
    cfg.IntOpt(
        "guest_uid_base",
        default=_DEFAULTS["guest_uid_base"],
        min=1000,
        max=2**31 - 1 - GUEST_UIDS,
        help=f"The first of {GUEST_UIDS} user and group numbers for guests, which nobody else on this host may have.",
    ),
    cfg.StrOpt(
        "cgroup_dir",
        default=str(_DEFAULTS["cgroup_dir"]),
        help="The control group that holds those of the guests: one level below the root of a cgroup v2 file system. "
        "Where there is none, guests have no limits, and flavors that ask for some are refused.",
    ),
    cfg.StrOpt(
        "hypervisor",
        default=_DEFAULTS["hypervisor"],
        choices=[
            (
                "auto",
                "what the flavor's extra spec hw:hypervisor or the image's property hw_hypervisor says; else vmm for a "
                "kernel that is booted directly where vmm has all that is ordered, and qemu for all others",
            ),
            ("vmm", "vmm, a KVM machine of this agent's own, but for flavors that say hw:hypervisor = qemu"),
            ("qemu", "QEMU only: flavors that say hw:hypervisor = vmm are refused"),
        ],
        help="What runs the guests. An instance keeps the one that it was booted with.",
    ),
    cfg.StrOpt(
        "accelerator",
        default=_DEFAULTS["accelerator"],
        choices=[
            ("auto", "KVM where it truly runs a guest, else TCG"),
            ("kvm", "KVM only"),
            ("tcg", "emulation: works everywhere, slow"),
        ],
        help="What executes the guests' instructions.",
    ),
    cfg.StrOpt(
        "cpu_model",
        default=_DEFAULTS["cpu_model"],
        regex=r"^[A-Za-z0-9_.-]+(,[+-][A-Za-z0-9_.-]+)*$",
        help="The CPU that new guests of QEMU see under KVM: host, all that this host has; or a model with features, "
        "such as EPYC-v3,+aes, which `computectl cpu baseline` finds for hosts that guests are to move between. A "
        "guest keeps what it was booted with, and does not start where something of it is missing.",
    ),
    cfg.StrOpt(
        "qemu_binary", default=_DEFAULTS["qemu_binary"], help="The QEMU program: a path, or a name to be found in PATH."
    ),
    cfg.StrOpt(
        "bios",
        default=str(_DEFAULTS["bios"]),
        help="SeaBIOS, which guests of vmm start with that boot from a disk.",
    ),
    cfg.IntOpt(
        "iothreads",
        default=_DEFAULTS["iothreads"],
        min=1,
        max=16,
        help="Threads of each guest's process that serve its disks; more of them than disks are of no use. "
        "A guest that runs keeps what it was started with.",
    ),
    cfg.IntOpt(
        "console_log_size",
        default=_DEFAULTS["console_log_size"],
        min=4096,
        max=1024**3,
        help="Bytes of a serial console that are kept, for each guest; older output is dropped.",
    ),
    cfg.FloatOpt(
        "start_timeout",
        default=_DEFAULTS["start_timeout"],
        min=1,
        max=3600,
        help="Seconds that a QEMU process may take until its guest runs.",
    ),
    cfg.FloatOpt(
        "command_timeout",
        default=_DEFAULTS["command_timeout"],
        min=1,
        max=3600,
        help="Seconds that a guest's monitor may take to answer a command.",
    ),
    cfg.FloatOpt(
        "detach_timeout",
        default=_DEFAULTS["detach_timeout"],
        min=1,
        max=600,
        help="Seconds that a guest may take to let go of a device; after that the detach fails and may be repeated.",
    ),
    cfg.FloatOpt(
        "freeze_timeout",
        default=_DEFAULTS["freeze_timeout"],
        min=1,
        max=600,
        help="Seconds that a guest's file systems may stay frozen while copies of its disks begin; then they are "
        "thawed, whatever happens.",
    ),
    cfg.FloatOpt(
        "copy_halt_timeout",
        default=_DEFAULTS["copy_halt_timeout"],
        min=1,
        max=3600,
        help="Seconds after which a snapshot or backup of a running guest fails where nothing more is copied: what the "
        "guest writes may wait for it.",
    ),
    cfg.FloatOpt(
        "kill_timeout",
        default=_DEFAULTS["kill_timeout"],
        min=1,
        max=3600,
        help="Seconds that a killed QEMU process may take to be gone.",
    ),
    cfg.FloatOpt(
        "save_timeout",
        default=_DEFAULTS["save_timeout"],
        min=1,
        max=86400,
        help="Seconds that saving a guest's memory to disk may take.",
    ),
]


def virt_settings(conf: cfg.ConfigOpts) -> VirtSettings:
    """What the virt room is told."""
    paths = {name: Path(conf.virt[name]) for name in ("state_dir", "run_dir", "cgroup_dir", "bios")}
    return VirtSettings(**{name: conf.virt[name] for name in _DEFAULTS} | paths)
