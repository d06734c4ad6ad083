"""The folder as it was at a moment or before an entry: the view of the entries that there were.

Invariant: what is given is a pure function of the log and of what is asked, by the rules of the present view
(`sync.view`): what is in quarantine, or cannot be read, counts for nothing then as now. Calls block for a large log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshsync.agent.observer import display
from meshsync.agent.replica import Replica
from meshsync.codec.canonical import decode
from meshsync.content.batch import Batch
from meshsync.content.record import Content
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, NotFound
from meshsync.ids import EntryId
from meshsync.limits import ENTRY_ENVELOPE_BYTES_MAX
from meshsync.metalog.entry import Envelope, OpenedEntry, SignedEntry
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.disk_rows import Path
from meshsync.sync.moments import Linked, Moments, links, past_of
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class Was:
    """One path as it was."""

    path: Path
    content: Content
    executable: bool
    mtime_ns: int


def view_at(replica: Replica, moment_ns: int, now_ns: int) -> View:
    """Return what had been made by `moment_ns`, in nanoseconds since 1970. See `sync.moments` for clocks."""
    moments = Moments(now_ns)

    def is_made(entry: Linked, batch: Batch | None) -> bool:
        return moments.add(entry, 0 if batch is None else batch.time_ns) <= moment_ns

    return _view(replica, is_made)


def view_before(replica: Replica, entry: EntryId) -> View:
    """Return what the author of `entry` knew when it was signed."""
    past = past_of([_linked(opened) for opened, _ in _entries(replica)], entry)
    return _view(replica, lambda linked, batch: linked.id in past)


def below(view: View, path: Path) -> list[Was]:
    """Return what was at and below `path`, directories before what is in them; the root itself is left out.

    Raises NotFound if nothing was there.
    """
    found = [
        Was(at, shown.content, shown.executable, shown.face.mtime_ns)
        for at, shown in view.walk()
        if at[: len(path)] == path
    ]
    if path and not found:
        raise NotFound("nothing lay there then", path=display(path), next_step="meshsync log shows what was when")
    return found


def _view(replica: Replica, is_in: Callable[[Linked, Batch | None], bool]) -> View:
    view = View()
    for entry, time in _entries(replica):
        batch = _read(replica, entry)
        if not is_in(_linked(entry), batch):
            continue
        delivered = DeliveredEntry(
            entry.device, entry.chain, entry.envelope.seq, time, () if batch is None else tuple(batch.ops)
        )
        if batch is None and entry.id in replica.quarantined:
            view.void(entry.chain, entry.envelope.seq)
        elif not view.missing(delivered):  # what a chain with very many heads to name did not name may be missing
            view.apply(delivered)
    return view


def _entries(replica: Replica) -> Iterator[tuple[OpenedEntry, int]]:
    for row in replica.log_rows.entries():
        envelope = decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX)
        yield OpenedEntry(row.id, row.chain, envelope, SignedEntry(row.envelope, row.signature, row.payload)), row.time


def _linked(entry: OpenedEntry) -> Linked:
    return Linked(entry.id, links(entry.envelope.prev, (EntryId(head.entry) for head in entry.envelope.seen)))


def _read(replica: Replica, entry: OpenedEntry) -> Batch | None:
    """Return the operations of an entry, None if they count for nothing."""
    if entry.id in replica.quarantined:
        return None
    try:
        return replica.read(entry)
    except (IntegrityError, MalformedMessage, AccessError):
        return None
