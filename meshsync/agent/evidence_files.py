"""Evidence against relays as files in a folder's state directory: written once, durable, read again at each start.

Invariant: what is returned as found verifies by itself (`meshsync.evidence`); one file for each relay, at most
EVIDENCE_FILES_MAX of EVIDENCE_BYTES_MAX, so that no relay fills the disk with its own misdeeds.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from meshsync.errors import MeshsyncError
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import EVIDENCE_BYTES_MAX, EVIDENCE_FILES_MAX
from meshsync.metalog.evidence import Evidence, Proven, encode_evidence, verify_evidence
from meshsync.store.files import SystemFiles, make_directory, write_atomic

log = logging.getLogger(__name__)

_NAME_END = ".evidence"


@dataclass(frozen=True, slots=True)
class Convicted:
    """A relay that is proven to have shown two logs. `since_ns`: when this device found out, by its clock."""

    proven: Proven
    since_ns: int
    path: Path


def place(directory: Path, proven: Proven, since_ns: int) -> Convicted:
    """Return what is to be kept of new evidence, and where."""
    name = f"{proven.relay[:5].hex()}-{proven.fault.name.lower()}-{since_ns}{_NAME_END}"
    return Convicted(proven, since_ns, directory / name)


def keep(convicted: Convicted, evidence: Evidence) -> None:
    """Return when the file is durable. Beyond EVIDENCE_FILES_MAX none is written. Blocking. Raises ResourceError."""
    make_directory(SystemFiles(), convicted.path.parent)
    if len(list(convicted.path.parent.glob(f"*{_NAME_END}"))) < EVIDENCE_FILES_MAX:
        write_atomic(SystemFiles(), convicted.path, encode_evidence(evidence))


def kept(directory: Path, folder: FolderId) -> dict[DeviceId, Convicted]:
    """Return the relays convicted by the files of `directory`, each by its oldest file. Blocking.

    A file that does not verify, or is about another folder, convicts nobody and is left where it is.
    """
    found: dict[DeviceId, Convicted] = {}
    for path in sorted(directory.glob(f"*{_NAME_END}"))[:EVIDENCE_FILES_MAX] if directory.is_dir() else ():
        try:
            with path.open("rb") as file:
                proven = verify_evidence(file.read(EVIDENCE_BYTES_MAX + 1))
            since_ns = int(path.stem.rpartition("-")[2])
        except (MeshsyncError, OSError, ValueError) as error:
            log.warning("%s proves nothing: %s", path, error)
            continue
        if proven.folder == folder and (proven.relay not in found or since_ns < found[proven.relay].since_ns):
            found[proven.relay] = Convicted(proven, since_ns, path)
    return found
