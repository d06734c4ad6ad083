"""The membership at a place of a relay's log, while the log is read in order.

Invariant: a record that does not continue the chain, or that its author may not sign, changes nothing; so what a
hostile relay puts there gives nobody a right.
"""

from __future__ import annotations

from meshsync.errors import FormatUnsupported, MeshsyncError
from meshsync.ids import FolderId
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import open_membership


def is_forged(now: Membership | None, data: bytes, folder: FolderId) -> bool:
    """Whether no relay may take the membership record `data` into its log where `now` is in force there."""
    try:
        entry = open_membership(data)
        if now is None:
            return found(entry).folder != folder
        if not now.follows(entry):
            return True
        now.apply(entry)
    except FormatUnsupported:
        return False  # of a newer build: kept and passed on
    except MeshsyncError:
        return True
    return False


def next_membership(now: Membership | None, data: bytes, folder: FolderId) -> Membership | None:
    """Return the membership after the membership record `data`, if it was `now` before; None at the log's beginning."""
    try:
        entry = open_membership(data)
        if now is not None:
            return now.apply(entry) if now.follows(entry) else now
        first = found(entry)
    except MeshsyncError:
        return now
    return first if first.folder == folder else None
