"""Everything that compute-agent raises on purpose.

::

    ComputeAgentError
     ├── InvalidInput                  the caller's fault: nothing was changed
     │    ├── InvalidMessage           an RPC message: wrong field, type, size or version
     │    ├── InvalidImage             an image or kernel that must not reach a guest
     │    └── InvalidConfiguration     compute-agent.conf or a command line
     ├── NotFound                      nothing was changed
     │    ├── InstanceNotFound
     │    ├── OperationNotFound
     │    └── CopyNotFound             no such snapshot or backup
     ├── Conflict                      the caller is in the way of something else: nothing was changed
     │    ├── InstanceExists           the uuid is in use
     │    ├── InvalidState             the instance is not in a state that allows the operation
     │    └── RequestMismatch          the request id was used before for something else
     ├── HostError                     this node cannot do it now; the step's undo puts things back
     │    ├── HostInMaintenance        it takes no guests at present
     │    ├── JournalError             the journal cannot be written or read now: what was to be written does not hold
     │    ├── InsufficientResources    memory, CPUs or disk space
     │    ├── MigrationFailed          a guest could not move, and goes on where it was
     │    ├── MigrationRefused         a guest cannot come here, or must not run here; the message names why
     │    ├── KvmError                 /dev/kvm is not there, refuses something, or does not run a guest
     │    ├── NetworkError             a bridge that is not there, a switch that does not answer
     │    └── StorageError             a download, a disk or its directory
     │         └── DiskInUse           somebody else writes to it, or stands on it: the message says who
     ├── GuestError
     │    ├── MachineError             one of a machine of our own (vmm)
     │    │    ├── BadGuestAddress     what a guest points its devices to is not its memory
     │    │    ├── AddressInUse        two devices cannot answer at the same address
     │    │    └── DeviceError         who serves a device refuses, or is not there any more
     │    ├── GuestGone                no process runs this guest any more
     │    ├── DetachRefused            the guest has not let go of a device, which is as it was
     │    ├── GuestStartFailed         the hypervisor ended or refused while starting; no process is left
     │    └── MonitorError             the monitor answered "error": the guest is as it was
     ├── RecordTooNew                  written by a newer agent; left untouched
     └── DeadlineExceeded              no answer in time: what holds is UNKNOWN, look before undoing

All but `DeadlineExceeded` are definite: what they report has (or has not) happened. Arguments are
positional and plain, because RPC carries an exception as its class name and its arguments.
"""

from __future__ import annotations


class ComputeAgentError(Exception):
    """Base of all; `str()` is one line meant for a person."""

    def __str__(self) -> str:
        return ": ".join(str(argument) for argument in self.args)


class InvalidInput(ComputeAgentError):
    """`field` (a path such as ``instance.flavor.vcpus``) has an unusable `value`."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason} (got {_shorten(self.value)})"


class InvalidMessage(InvalidInput):
    """An RPC message that does not follow its schema."""


class InvalidImage(InvalidInput):
    """An image file that is refused before QEMU sees it."""


class InvalidConfiguration(InvalidInput):
    """An option, in the configuration file or on the command line."""


class NotFound(ComputeAgentError):
    """The thing asked for does not exist."""


class InstanceNotFound(NotFound):
    """No instance of this uuid lives on this host."""

    def __init__(self, instance_uuid: str) -> None:
        super().__init__(instance_uuid)

    def __str__(self) -> str:
        return f"instance_uuid: no such instance on this host (got {self.args[0]!r})"


class OperationNotFound(NotFound):
    """No operation was accepted under this request id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)

    def __str__(self) -> str:
        return f"request_id: no such operation on this host (got {self.args[0]!r})"


class CopyNotFound(NotFound):
    """There is no such snapshot or backup on this host; `field` is ``image_id`` or ``backup_id``."""

    def __init__(self, field: str, copy_id: str) -> None:
        super().__init__(field, copy_id)

    def __str__(self) -> str:
        return f"{self.args[0]}: no such copy on this host (got {self.args[1]!r})"


class Conflict(ComputeAgentError):
    """The request contradicts what is there."""


class InstanceExists(Conflict):
    """The uuid of a new instance is in use on this host."""

    def __init__(self, instance_uuid: str) -> None:
        super().__init__(instance_uuid)

    def __str__(self) -> str:
        return f"instance.uuid: already in use on this host (got {self.args[0]!r})"


class InvalidState(Conflict):
    """`operation` is not allowed while the instance is in `state`."""

    def __init__(self, instance_uuid: str, operation: str, state: str, allowed: str) -> None:
        super().__init__(instance_uuid, operation, state, allowed)

    def __str__(self) -> str:
        uuid, operation, state, allowed = self.args
        return f"instance {uuid} is {state}: {operation} needs it to be {allowed}"


class RequestMismatch(Conflict):
    """`request_id` was accepted before with other contents."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)

    def __str__(self) -> str:
        return f"request_id: already used for a different request (got {self.args[0]!r})"


class HostError(ComputeAgentError):
    """This node cannot do what was asked."""


class HostInMaintenance(HostError):
    """`host` takes no guests: neither new ones nor those of other hosts."""

    def __init__(self, host: str) -> None:
        super().__init__(host)

    def __str__(self) -> str:
        return f"host {self.args[0]} is in maintenance: it takes no guests"


class JournalError(HostError):
    """The journal cannot be written or read now, as when its disk is full. What is under way waits until it can be."""


class InsufficientResources(HostError):
    """Not enough memory, CPUs or disk space."""


class MigrationFailed(HostError):
    """A guest did not get to another host: it goes on where it was."""


class MigrationRefused(HostError):
    """A host does not take a guest from another one. To a hand-over it means that it never will: ask no more."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)


class KvmError(HostError):
    """KVM is not there, refuses something, or does not run a guest."""


class NetworkError(HostError):
    """A port could not be plugged or unplugged."""


class StorageError(HostError):
    """A disk could not be made, found or removed."""


class DiskInUse(StorageError):
    """Somebody else writes to a disk, has it open, or made clones of it; the message says who."""


class GuestError(ComputeAgentError):
    """Something about one guest's process."""


class MachineError(GuestError):
    """Something inside a machine of our own."""


class BadGuestAddress(MachineError):
    """A guest's driver, or who loads the guest, means memory that the guest does not have. Nothing was touched."""


class AddressInUse(MachineError):
    """Two devices would answer at the same address; nothing was changed."""

    def __init__(self, wanted: str, there: str) -> None:
        super().__init__(wanted, there)

    def __str__(self) -> str:
        return f"{self.args[0]} is taken by what is at {self.args[1]}"


class DeviceError(MachineError):
    """Who serves a guest's device, in the kernel or in another process, refuses something or is not there any more."""


class GuestGone(GuestError):
    """The guest's process does not exist any more."""


class DetachRefused(GuestError):
    """The guest has not let go of a device in time, or said no; the device is as it was."""


class GuestStartFailed(GuestError):
    """The guest did not come up; its process has been removed."""


class MonitorError(GuestError):
    """The monitor of a guest, or of whoever has its disks open, refused a command; nothing was changed."""


class RecordTooNew(ComputeAgentError):
    """A stored record has a version that this agent does not know."""


class DeadlineExceeded(ComputeAgentError):
    """No answer in time. The outcome is unknown, not failed."""


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def one_line(text: str) -> str:
    """The text as it may stand in an error: what a stranger calls things must not begin a line of the log."""
    return text if text.isprintable() else repr(text)[1:-1]
