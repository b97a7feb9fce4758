"""Section [ceph]."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from compute_agent.conf.defaults import defaults_of
from compute_agent.errors import InvalidConfiguration
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.settings import OwnPool, RbdSettings
from compute_agent.storage.server.settings import BLOCK_SERVER_UIDS, BlockServerSettings

_CEPH = defaults_of(CephSettings)
_SERVERS = defaults_of(BlockServerSettings)

GROUP = cfg.OptGroup("ceph", help="Disks in Ceph (RBD), and the block servers that open them for guests.")

OPTIONS = [
    cfg.StrOpt(
        "conf_dir",
        default=str(_CEPH["conf_dir"]),
        help="Has a file NAME.conf for each cluster that volumes may come from: monitors are read from there only.",
    ),
    cfg.StrOpt(
        "secret_dir",
        default=str(_CEPH["secret_dir"]),
        help="Has a file for each secret, called after its uuid: the key of a cluster's user in base64. Root's alone.",
    ),
    cfg.StrOpt(
        "pool",
        default="",
        help="Where disks of instances are made that are to be in Ceph. Empty: volumes can be attached, but no disk is "
        "made in Ceph.",
    ),
    cfg.StrOpt("cluster_name", default="ceph", help="The cluster of that pool."),
    cfg.StrOpt("user", default="", help="Who we are to it, without `client.`."),
    cfg.StrOpt(
        "secret_uuid",
        help="The secret that holds the user's key. Without one it is looked for in the keyring that the cluster's "
        "configuration names.",
    ),
    cfg.FloatOpt(
        "call_timeout",
        default=_CEPH["call_timeout"],
        min=1,
        max=3600,
        help="Seconds that a cluster may take for one thing that it is asked.",
    ),
    cfg.FloatOpt(
        "long_call_timeout",
        default=_CEPH["long_call_timeout"],
        min=1,
        max=7 * 86400,
        help="Seconds for one thing that moves data: to remove or fill an image.",
    ),
    cfg.StrOpt(
        "state_dir",
        default="${agent.state_dir}/ceph",
        help="Keeps what clusters have still to do: images to be removed or let go of. An absolute path.",
    ),
    cfg.StrOpt(
        "run_dir",
        default="${agent.run_dir}/servers",
        help="Sockets of block servers, one directory an instance. An absolute path, at most 60 bytes long or so.",
    ),
    cfg.StrOpt(
        "server_binary",
        default=_SERVERS["program"],
        help="The qemu-storage-daemon program: a path, or a name to be found in PATH.",
    ),
    cfg.StrOpt(
        "server_cgroup_dir",
        default=str(_SERVERS["cgroup_dir"]),
        help="The control group that holds those of the block servers: one level below the root of a cgroup v2 file "
        "system. Where there is none, block servers have no limits.",
    ),
    cfg.IntOpt(
        "server_uid_base",
        default=_SERVERS["uid_base"],
        min=1000,
        max=2**31 - 1 - BLOCK_SERVER_UIDS,
        help=f"The first of {BLOCK_SERVER_UIDS} user and group numbers for block servers, which nobody else on this "
        "host may have, guests least of all.",
    ),
]


def rbd_settings(conf: cfg.ConfigOpts) -> RbdSettings:
    """What disks in Ceph are told.

    :raises InvalidConfiguration: there is a pool, but nobody to use it.
    """
    section = conf.ceph
    if section.pool and not section.user:
        raise InvalidConfiguration("ceph.user", section.user, "is needed where there is a pool")
    user = ClusterUser(
        cluster_name=section.cluster_name, auth_username=section.user, secret_uuid=section.secret_uuid or None
    )
    return RbdSettings(
        ceph=CephSettings(
            conf_dir=Path(section.conf_dir),
            secret_dir=Path(section.secret_dir),
            call_timeout=section.call_timeout,
            long_call_timeout=section.long_call_timeout,
        ),
        servers=BlockServerSettings(
            run_dir=Path(section.run_dir),
            program=section.server_binary,
            uid_base=section.server_uid_base,
            cgroup_dir=Path(section.server_cgroup_dir),
            copy_halt_timeout=conf.virt.copy_halt_timeout,
        ),
        state_dir=Path(section.state_dir),
        own_pool=OwnPool(user=user, pool=section.pool) if section.pool else None,
    )
