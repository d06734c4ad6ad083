"""Where a device keeps what it notes of a handout: in the index of the handout's folder, written in one transaction."""

from __future__ import annotations

from meshsync.agent.handout import GIVEN_KEY, TAKEN_KEY, Handout, pack, unpack
from meshsync.index.database import Database
from meshsync.index.meta import Meta


def read_note(meta: Meta) -> Handout | None:
    """Return the note, None for a folder that is no handout. Blocking. Raises MalformedMessage."""
    return unpack(meta.get(GIVEN_KEY), meta.get(TAKEN_KEY))


def write_note(database: Database, meta: Meta, handout: Handout) -> None:
    """Replace the note, durably. Blocking. Raises ResourceError."""
    with database.transaction():
        meta.set(*pack(handout))
