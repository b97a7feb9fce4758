"""The commands of computectl, related ones in a module."""

from cliff.command import Command

from compute_agent.cli.commands.boot import Boot
from compute_agent.cli.commands.console import Console
from compute_agent.cli.commands.copies import (
    BackupCreate,
    BackupDelete,
    BackupList,
    BackupRestore,
    SnapshotCreate,
    SnapshotDelete,
    SnapshotShow,
)
from compute_agent.cli.commands.cpu import CpuBaseline
from compute_agent.cli.commands.disk_contents import ImageInspect, ImagePut
from compute_agent.cli.commands.doctor import Doctor
from compute_agent.cli.commands.drain import HostDrain
from compute_agent.cli.commands.help import Complete, Help
from compute_agent.cli.commands.host import HostShow
from compute_agent.cli.commands.images import ImageList, ImagePrune
from compute_agent.cli.commands.instances import Diagnostics, List, Record, Show
from compute_agent.cli.commands.interfaces import InterfaceAttach, InterfaceDetach
from compute_agent.cli.commands.layers import VolumeSnapshotCreate, VolumeSnapshotDelete, VolumeSnapshotRevert
from compute_agent.cli.commands.lifecycle import Pause, Reboot, Resume, Start, Stop, Suspend, Terminate, Unpause
from compute_agent.cli.commands.migration import Evacuate, Migrate, MigrationAbort, MigrationForceComplete
from compute_agent.cli.commands.operations import OperationList, OperationShow
from compute_agent.cli.commands.reconcile import Reconcile
from compute_agent.cli.commands.volumes import VolumeAttach, VolumeDetach, VolumeExtend, VolumeLimit

COMMANDS: dict[str, dict[str, type[Command]]] = {
    "Instances": {
        "boot": Boot,
        "list": List,
        "show": Show,
        "record": Record,
        "start": Start,
        "stop": Stop,
        "reboot": Reboot,
        "pause": Pause,
        "unpause": Unpause,
        "suspend": Suspend,
        "resume": Resume,
        "terminate": Terminate,
        "console": Console,
        "diagnostics": Diagnostics,
    },
    "Volumes": {
        "volume attach": VolumeAttach,
        "volume detach": VolumeDetach,
        "volume extend": VolumeExtend,
        "volume limit": VolumeLimit,
        "volume snapshot create": VolumeSnapshotCreate,
        "volume snapshot delete": VolumeSnapshotDelete,
        "volume snapshot revert": VolumeSnapshotRevert,
    },
    "Interfaces": {
        "interface attach": InterfaceAttach,
        "interface detach": InterfaceDetach,
    },
    "Images": {
        "image list": ImageList,
        "image prune": ImagePrune,
        "image inspect": ImageInspect,
        "image put": ImagePut,
    },
    "Copies": {
        "snapshot create": SnapshotCreate,
        "snapshot show": SnapshotShow,
        "snapshot delete": SnapshotDelete,
        "backup create": BackupCreate,
        "backup list": BackupList,
        "backup restore": BackupRestore,
        "backup delete": BackupDelete,
    },
    "Migration": {
        "migrate": Migrate,
        "migration abort": MigrationAbort,
        "migration force-complete": MigrationForceComplete,
        "evacuate": Evacuate,
    },
    "Host": {
        "host show": HostShow,
        "drain": HostDrain,
        "cpu baseline": CpuBaseline,
        "operation list": OperationList,
        "operation show": OperationShow,
        "doctor": Doctor,
        "reconcile": Reconcile,
    },
    "This tool": {"help": Help, "complete": Complete},
}
"""By heading, in the order of help."""
