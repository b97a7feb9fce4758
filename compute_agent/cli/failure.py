"""What a command tells when it could not do its work: one line that names what and where, one that says what next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum

from compute_agent import errors


class ExitStatus(IntEnum):
    """Exit statuses of computectl, besides 0."""

    FAILED = 1
    """Refused, or done and failed: nothing goes on."""
    USAGE = 2
    """The command line or the configuration cannot be meant; nothing was sent."""
    UNKNOWN = 3
    """No answer in time: it may have been done, or may yet be."""
    INTERRUPTED = 130
    """Ctrl-C; what was accepted goes on."""


class Failure(Exception):
    """Ends a command. Both texts are for a person, one line each."""

    def __init__(self, message: str, advice: str, status: ExitStatus = ExitStatus.FAILED) -> None:
        super().__init__(message, advice, status)
        self.message = message
        self.advice = advice
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a command was about, as far as it has one: fills the gaps of the advice."""

    host: str
    broker: str
    """Where the broker is named, such as ``transport_url in FILE``."""
    instance: str = "INSTANCE"
    request_id: str = ""
    """Empty where no request for a change was sent."""


_ADVICE: dict[type[errors.ComputeAgentError], str] = {
    errors.InvalidConfiguration: "correct it, or see: computectl help",
    errors.InvalidImage: "check where the image is, its format (qemu-img info) and its checksum",
    errors.InvalidInput: "correct the field; the messages are described in docs/rpc.md",
    errors.InstanceNotFound: "computectl list",
    errors.OperationNotFound: "computectl operation list",
    errors.CopyNotFound: "computectl backup list",
    errors.InstanceExists: "computectl list; leave --uuid out to get a new one",
    errors.InvalidState: "computectl show {instance}",
    errors.RequestMismatch: "computectl operation show {request_id}; leave --request-id out for a new request",
    errors.HostError: "check {broker}; on the broker: rabbitmqctl status; on {host}: systemctl status compute-agent",
    errors.MigrationFailed: "computectl operation show {request_id}; the guest is where it was",
    errors.MigrationRefused: "move it to another host; the guest is where it was",
    errors.HostInMaintenance: "choose another host; or computectl --host HOST drain --undo",
    errors.JournalError: "on {host}: make room where [agent] state_dir is; computectl doctor",
    errors.InsufficientResources: "computectl host show",
    errors.NetworkError: "on {host}: ovs-vsctl show; systemctl status openvswitch-switch",
    errors.StorageError: "computectl host show; on {host}: journalctl -u compute-agent",
    errors.GuestGone: "computectl show {instance}; computectl start {instance}",
    errors.GuestStartFailed: "computectl console {instance}; on {host}: journalctl -u compute-agent",
    errors.MonitorError: "computectl diagnostics {instance}; on {host}: journalctl -u compute-agent",
    errors.RecordTooNew: "on {host}: install the compute-agent that wrote it, or a newer one",
    errors.ComputeAgentError: "on {host}: journalctl -u compute-agent",
}
_ADVICE_ON_SILENCE = "on {host}: systemctl status compute-agent; or give it longer with --rpc-timeout"
_ADVICE_ON_UNKNOWN = "computectl operation show {request_id}; or repeat the command with --request-id {request_id}"


def advice_about(kind: type[errors.ComputeAgentError], circumstances: Circumstances) -> str:
    """What helps after an error of that class."""
    text = next(_ADVICE[ancestor] for ancestor in kind.__mro__ if ancestor in _ADVICE)
    return _fill(text, circumstances)


def explain(error: errors.ComputeAgentError, circumstances: Circumstances) -> Failure:
    """The same as a person should read it."""
    if isinstance(error, errors.DeadlineExceeded):
        return _explain_silence(error, circumstances)
    status = ExitStatus.USAGE if isinstance(error, errors.InvalidConfiguration) else ExitStatus.FAILED
    return Failure(str(error), advice_about(type(error), circumstances), status)


def _explain_silence(error: errors.DeadlineExceeded, circumstances: Circumstances) -> Failure:
    if circumstances.request_id:
        message, advice = f"{error}; the request may still have been taken", _ADVICE_ON_UNKNOWN
    else:
        message, advice = str(error), _ADVICE_ON_SILENCE
    return Failure(message, _fill(advice, circumstances), ExitStatus.UNKNOWN)


def _fill(text: str, circumstances: Circumstances) -> str:
    return text.format(**asdict(circumstances))
