"""What this device has seen of a folder's members: since when it knows them, when it last met them.

Membership entries carry no time, because clocks decide nothing; so these times are this device's own. They are for
people only. Invariant: kept over a restart; bounded by the members that the chain names.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import MalformedMessage
from meshsync.ids import DeviceId
from meshsync.index.database import Database
from meshsync.index.meta import Meta
from meshsync.limits import MEMBER_NOTES_BYTES_MAX

NOTES_KEY = "members noted"


class _Kept(Record, frozen=True):
    since: tuple[tuple[bytes, int], ...]
    gone: tuple[tuple[bytes, int], ...]
    seen: tuple[tuple[bytes, int], ...]
    adopted: tuple[bytes, ...] = ()


class MemberNotes:
    """One folder's notes. Times are nanoseconds since 1970 by this device's clock. Methods that write are blocking."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._meta = Meta(database)
        data = self._meta.get(NOTES_KEY)
        try:
            kept = decode(_Kept, data, MEMBER_NOTES_BYTES_MAX) if data else _Kept((), (), ())
        except MalformedMessage:  # of another build: what people are shown is not worth a refusal
            kept = _Kept((), (), ())
        self.since = {DeviceId(device): time for device, time in kept.since}
        self.gone = {DeviceId(device): time for device, time in kept.gone}
        self.seen = {DeviceId(device): time for device, time in kept.seen}
        self.adopted = set(kept.adopted)

    def note_members(self, members: Iterable[DeviceId], departed: Iterable[DeviceId], now_ns: int) -> None:
        """The chain names these members, and these that are members no more."""
        members, departed = set(members), set(departed)
        fresh = members - self.since.keys() or departed - self.gone.keys() or self.gone.keys() & members
        for device in members:
            self.since.setdefault(device, now_ns)
            self.gone.pop(device, None)
        for device in departed:
            self.gone.setdefault(device, now_ns)
        if fresh:
            self._save()

    def note_seen(self, devices: Iterable[DeviceId], now_ns: int) -> None:
        """There are links to `devices` now."""
        met = dict.fromkeys(devices, now_ns)
        if met:
            self.seen.update(met)
            self._save()

    def note_adopted(self, entries: Iterable[bytes]) -> None:
        """The user has decided about these quarantined entries."""
        self.adopted.update(entries)
        self._save()

    def _save(self) -> None:
        since, gone, seen = (
            tuple(sorted((bytes(device), time) for device, time in times.items()))
            for times in (self.since, self.gone, self.seen)
        )
        kept = _Kept(since, gone, seen, tuple(sorted(self.adopted)))
        with self._database.transaction():
            self._meta.set(NOTES_KEY, encode(kept))
