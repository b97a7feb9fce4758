"""Whether two hosts mean the same file by a path: one leaves a proof beside it for a moment, which the other finds.

Its name has never been looked for, so no host can remember, as NFS's clients do, that it is not there.
"""

from __future__ import annotations

from pathlib import Path

from compute_agent.errors import MigrationRefused
from compute_agent.storage.file_locks import is_in_use, is_noted_for, noted_writer
from compute_agent.storage.source import Coming, Place


def leave_proof(path: Path, proof: str) -> None:
    """Until `take_proof_back`, whoever finds `proof` beside a file of that name has this very file.

    :raises OSError: nothing can be written there.
    """
    _proof(path, proof).touch()


def take_proof_back(path: Path, proof: str) -> None:
    """It is not needed any more. Nothing happens where there is none.

    :raises OSError: it cannot be removed.
    """
    _proof(path, proof).unlink(missing_ok=True)


def require_same_file(place: Place, path: Path, coming: Coming) -> None:
    """:raises MigrationRefused: the file is not the one beside which the other host has left the proof."""
    if not path.exists():
        raise MigrationRefused(place.name, f"{path} is missing here")
    if coming.proof is None or not _proof(path, coming.proof).exists():
        reason = "it is not on a file system that both share"
        raise MigrationRefused(place.name, f"{path} is not the file that {coming.source} has: {reason}")


def require_own_file(place: Place, path: Path, coming: Coming) -> None:
    """See that a file which is written to can be the instance's here, too.

    QEMU opens such a file and locks it only when its guest runs; a block server locks it at once.

    :raises MigrationRefused: somebody else writes to it, or the block server here would be refused.
    :raises OSError: it cannot be opened.
    """
    if (coming.in_use or is_in_use(path)) and not is_noted_for(path, place.instance_uuid):
        raise MigrationRefused(place.name, f"{path} here is in use by {noted_writer(path)}")
    if coming.in_use and coming.is_served:
        reason = "the block server here could not open it before the one there has closed it"
        raise MigrationRefused(place.name, f"a volume in a file, of a machine of our own (vmm): {reason}")


def _proof(path: Path, proof: str) -> Path:
    return path.with_name(f"{path.name}.moving.{proof}")
