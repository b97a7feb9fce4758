"""Open vSwitch: its database, its daemon, the integration bridge and what forwards there."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.doctor.ovsdb import OvsdbConnection
from compute_agent.instance.model import PortDetails

BRIDGE = PortDetails().bridge_name
"""Where ports go that name no other."""

_DEADLINE = 5.0
_LOCAL_PORT = 65534
"""OpenFlow's number of the port that is the bridge itself: ovs-vswitchd gives it when the datapath works."""
_RESTART = "systemctl restart openvswitch-switch"
_USE_THE_KERNEL = f"modprobe openvswitch && ovs-vsctl set bridge {BRIDGE} datapath_type=system"


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeState:
    """The integration bridge, as the database has it."""

    datapath: str
    """``system`` (the kernel's), or ``netdev`` (in user space)."""
    local_port: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchState:
    """What the database tells."""

    version: str
    daemon_runs: bool
    changes_behind: int
    """Which ovs-vswitchd has not put into effect yet."""
    bridge: BridgeState | None


def check_switch(connection: str) -> list[Finding]:
    """Does it answer, does it forward, and how?"""
    try:
        with OvsdbConnection(connection, time.monotonic() + _DEADLINE) as ovsdb:
            state = _read(ovsdb)
    except OSError as error:
        found = f"no database at {connection}: {error.strerror or error}"
        return [failure("openvswitch", found, f"{_RESTART}; or correct [network] ovsdb_connection")]
    return [judge_daemon(state, connection), judge_bridge(state.bridge, Path("/sys/module/openvswitch").exists())]


def judge_daemon(state: SwitchState, connection: str) -> Finding:
    """Is the switch alive?"""
    if not state.daemon_runs:
        found = f"the database answers at {connection}, but ovs-vswitchd does not run"
        return failure("openvswitch", found, _RESTART)
    if state.changes_behind:
        found = f"ovs-vswitchd has not put {state.changes_behind} changes of its database into effect"
        return warning("openvswitch", found, "ovs-vsctl show; tail /var/log/openvswitch/ovs-vswitchd.log")
    return ok("openvswitch", f"{state.version} at {connection}")


def judge_bridge(bridge: BridgeState | None, kernel_has_it: bool) -> Finding:
    """Is it there, does it work, and does the kernel do the work?"""
    if bridge is None:
        return failure("datapath", f"there is no bridge {BRIDGE}", f"ovs-vsctl add-br {BRIDGE}")
    if bridge.error or bridge.local_port != _LOCAL_PORT:
        reason = bridge.error or "ovs-vswitchd could not open its datapath"
        return failure("datapath", f"{BRIDGE} does not work: {reason}", f"modprobe openvswitch && {_RESTART}")
    if bridge.datapath == "system":
        return ok("datapath", f"{BRIDGE} is in the kernel")
    without = "" if kernel_has_it else ", and the kernel has no openvswitch module"
    found = (
        f"{BRIDGE} is in user space (datapath_type {bridge.datapath}): slow, and down while ovs-vswitchd is{without}"
    )
    return warning("datapath", found, _USE_THE_KERNEL)


def _read(ovsdb: OvsdbConnection) -> SwitchState:
    (switch,) = ovsdb.select("Open_vSwitch", "ovs_version", "cur_cfg", "next_cfg")
    return SwitchState(
        version=switch["ovs_version"] or _installed_version(),
        daemon_runs=ovsdb.daemon_runs(),
        changes_behind=switch["next_cfg"] - switch["cur_cfg"],
        bridge=_read_bridge(ovsdb),
    )


def _installed_version() -> str:
    """Where nobody wrote it into the database: Debian's start script does."""
    try:
        command = ["ovs-vswitchd", "--version"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "of unknown version"
    return text.partition("\n")[0].rpartition(" ")[2]


def _read_bridge(ovsdb: OvsdbConnection) -> BridgeState | None:
    bridges = ovsdb.select("Bridge", "datapath_type", name=BRIDGE)
    interfaces = ovsdb.select("Interface", "ofport", "error", name=BRIDGE)
    if not bridges or not interfaces:
        return None
    return BridgeState(
        datapath=bridges[0]["datapath_type"] or "system",
        local_port=interfaces[0]["ofport"],
        error=interfaces[0]["error"],
    )
