"""The folder as it was at a point of its history: the view of the entries that there were.

Invariant: what is given is a pure function of the log and of what is asked, by the rules of the present view
(`sync.view`): what is in quarantine, or cannot be read, counts for nothing then as now. Calls block for a large log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshsync.agent.observer import display
from meshsync.agent.replica import Replica
from meshsync.codec.canonical import decode
from meshsync.content.batch import Batch
from meshsync.content.record import Content, Op
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, NotFound
from meshsync.ids import DeviceId, EntryId
from meshsync.limits import ENTRY_ENVELOPE_BYTES_MAX
from meshsync.metalog.entry import Envelope, OpenedEntry, SignedEntry
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.disk_rows import Path
from meshsync.sync.moments import Linked, Moments, links, past_of
from meshsync.sync.undoing import Built, Without
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class Was:
    """One path as it was."""

    path: Path
    content: Content
    executable: bool
    mtime_ns: int


Point: TypeAlias = Callable[[Linked, Batch | None], bool]
"""Tells of each entry, in causal order, whether it counts; the second is None if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What another tree has otherwise than the present one, which shows `now` at these paths (None: nothing).

    `wanted`: what it has there, directories before what is in them. `gone`: what it has not, deepest first.
    """

    wanted: list[Was]
    gone: list[Path]
    now: dict[Path, Content | None]


def made_by(moment_ns: int, now_ns: int) -> Point:
    """Return what had been made by `moment_ns`, in nanoseconds since 1970. See `sync.moments` for clocks."""
    moments = Moments(now_ns)
    return lambda entry, batch: moments.add(entry, 0 if batch is None else batch.time_ns) <= moment_ns


def before(replica: Replica, entry: EntryId) -> Point:
    """Return what the author of `entry` knew when it was signed. Blocks."""
    past = past_of([linked_of(opened) for opened, _ in entries_of(replica)], entry)
    return lambda linked, batch: linked.id in past


def present(entry: Linked, batch: Batch | None) -> bool:
    """All that there is."""
    return True


def views(replica: Replica, *points: Point) -> list[View]:
    """Return the view at each point; each was made for this call."""
    made = [(point, View()) for point in points]
    for entry, time in entries_of(replica):
        batch, linked = readable(replica, entry), linked_of(entry)
        for point, view in made:
            if point(linked, batch):
                _take(replica, view, entry, time, () if batch is None else batch.ops)
    return [view for _, view in made]


def views_without(
    replica: Replica, devices: Collection[DeviceId] | None, since_ns: int, now_ns: int
) -> tuple[View, View, list[Built]]:
    """Return the present view, the view as if `devices` (None: all) had done nothing after `since_ns`, and what others
    built on that."""
    moments, without, now, then = Moments(now_ns), Without(), View(), View()
    for entry, time in entries_of(replica):
        batch, chain, seq = readable(replica, entry), entry.chain, entry.envelope.seq
        ops: Sequence[Op] = () if batch is None else batch.ops
        made = moments.add(linked_of(entry), 0 if batch is None else batch.time_ns)
        _take(replica, now, entry, time, ops)
        if made > since_ns and (devices is None or entry.device in devices):
            without.undo(chain, seq, ops)
            then.void(chain, seq)
        else:
            _take(replica, then, entry, time, without.keep(chain, seq, ops))
    return now, then, without.built


def differing(now: View, then: View, path: Path) -> Difference:
    """Return what `then` has otherwise than `now` at and below `path`."""
    here, there = _tree(now, path), _tree(then, path)
    wanted = [was for at, was in there.items() if not _same(here.get(at), was)]
    gone = sorted((at for at in here if at not in there), key=lambda at: (-len(at), at))
    shown = {at: here[at].content if at in here else None for at in (*(was.path for was in wanted), *gone)}
    return Difference(wanted, gone, shown)


def _tree(view: View, path: Path) -> dict[Path, Was]:
    return {
        at: Was(at, shown.content, shown.executable, shown.face.mtime_ns)
        for at, shown in view.walk()
        if at[: len(path)] == path
    }


def _same(one: Was | None, other: Was) -> bool:
    return one is not None and one.content == other.content and one.executable == other.executable


def below(view: View, path: Path) -> list[Was]:
    """Return what was at and below `path`, directories before what is in them; the root itself is left out.

    Raises NotFound if nothing was there.
    """
    found = list(_tree(view, path).values())
    if path and not found:
        raise NotFound("nothing lay there then", path=display(path), next_step="meshsync log shows what was when")
    return found


def _take(replica: Replica, view: View, entry: OpenedEntry, time: int, ops: Sequence[Op]) -> None:
    delivered = DeliveredEntry(entry.device, entry.chain, entry.envelope.seq, time, tuple(ops))
    if entry.id in replica.quarantined:
        view.void(entry.chain, entry.envelope.seq)
    elif not view.missing(delivered):  # what a chain with very many heads to name did not name may be missing
        view.apply(delivered)


def entries_of(replica: Replica) -> Iterator[tuple[OpenedEntry, int]]:
    """Yield every entry of the log here with its Lamport time, in causal order. Blocks."""
    for row in replica.log_rows.entries():
        envelope = decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX)
        yield OpenedEntry(row.id, row.chain, envelope, SignedEntry(row.envelope, row.signature, row.payload)), row.time


def linked_of(entry: OpenedEntry) -> Linked:
    """Return the entry's place among the others."""
    return Linked(entry.id, links(entry.envelope.prev, (EntryId(head.entry) for head in entry.envelope.seen)))


def readable(replica: Replica, entry: OpenedEntry) -> Batch | None:
    """Return the operations of an entry, None if they count for nothing."""
    if entry.id in replica.quarantined:
        return None
    try:
        return replica.read(entry)
    except (IntegrityError, MalformedMessage, AccessError):
        return None
