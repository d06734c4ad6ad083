"""What this folder's relays have of its versions, what they are owed, and what of it this device can bring.

Invariant: each relay is accounted for by itself; a version is durable as soon as `relays_needed` of the folder's relays
acknowledged it, and is brought to the others all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from meshsync.agent.history import unpack_content
from meshsync.agent.replica import Replica
from meshsync.ids import ChainId, DeviceId, Dot, EntryId, NodeId, dot_parts
from meshsync.index.version_rows import VersionRow
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import SyncedRow
from meshsync.sync.durability import is_owed, relays_needed


@dataclass(frozen=True, slots=True)
class UploadPlace:
    """How far the versions that are owed to a relay were looked through: this device's own first, then `others`."""

    others: bool = False
    after: tuple[int, bytes] = (-1, b"")


@dataclass(frozen=True, slots=True)
class Owing:
    """Versions of a folder: `not_durable` may still become durable, `not_kept` are at no relay and will not be."""

    not_durable: int = 0
    not_kept: int = 0


@dataclass(slots=True)
class Durability:
    """Belongs to one loop. `synced` is what lies on this disk, `linked` are the members with a link.

    What `convicted` relays acknowledged does not count as durable; they are asked for content all the same.
    """

    runtime: Runtime
    replica: Replica
    synced: Mapping[NodeId, SyncedRow]
    linked: Collection[DeviceId]
    convicted: Collection[DeviceId] = ()
    _counted: tuple[object, Owing] = field(init=False, default=(None, Owing()))

    @property
    def keepers(self) -> tuple[DeviceId, ...]:
        """The relays and backups that the folder is to be stored at."""
        return self.replica.keepers

    @property
    def trusted(self) -> list[DeviceId]:
        """Those of them whose word counts."""
        return [relay for relay in self.keepers if relay not in self.convicted]

    # --- what is there ------------------------------------------------------------------------------------------

    def holders(self, versions: list[Dot]) -> dict[Dot, list[DeviceId]]:
        """Return which of the folder's relays have the content of each of `versions`."""
        lacking = self.replica.versions.lacking(versions)
        return {name: [relay for relay in self.keepers if relay not in lacking.get(name, ())] for name in versions}

    def acknowledged(self, versions: list[Dot]) -> set[Dot]:
        """Return those of `versions` that a relay whose word counts has."""
        trusted = set(self.trusted)
        return {name for name, holders in self.holders(versions).items() if not trusted.isdisjoint(holders)}

    def is_durable(self, version: Dot) -> bool:
        """Whether as many relays as are needed have the version; False where no relay stores the folder."""
        trusted = self.trusted
        holders = set(self.holders([version])[version]).intersection(trusted)
        return bool(trusted) and len(holders) >= relays_needed(len(trusted))

    def owing(self) -> Owing:
        """Return what is not durable, and what is not kept by any relay; nothing where no relay stores the folder.

        Where none of its relays is trusted, nothing is durable.
        """
        relays = self.trusted
        if not relays:
            return Owing(not_durable=self.replica.versions.count() if self.keepers else 0)
        key = (self.replica.changes.count, self.replica.versions.revision, tuple(relays))
        if key != self._counted[0]:
            self._counted = (key, self._count(relays))
        return self._counted[1]

    def _count(self, relays: list[DeviceId]) -> Owing:
        versions = self.replica.versions
        spare = len(relays) - relays_needed(len(relays))
        ended = [chain for chain in self._chains() if not self._author_remains(chain)]
        owed, _ = versions.count_lacking(relays, spare, ended)
        _, not_kept = versions.count_lacking(relays, len(relays) - 1, ended)
        for name, lacking, waits in versions.list_lacking(relays, spare, ended) if ended else ():
            if waits and self._is_owed(name):
                owed += 1
            elif lacking == len(relays):
                not_kept += 1
        return Owing(owed, not_kept)

    def _is_owed(self, version: Dot) -> bool:
        chain, seq, _ = dot_parts(version)
        rows = self.replica.chains.rows(chain)
        entries = [EntryId(row.id) for row in rows if row.seq == seq]
        return is_owed(
            author_remains=self._author_remains(chain),
            counts=not all(entry in self.replica.quarantined for entry in entries),
            shown=self.replica.view.is_shown(version),
        )

    def _chains(self) -> list[ChainId]:
        return sorted({head.chain for head in self.replica.chains.heads()})

    def _author(self, chain: ChainId) -> DeviceId:
        return self.replica.chains.rows(chain)[0].device

    def _author_remains(self, chain: ChainId) -> bool:
        membership, device = self.replica.membership, self._author(chain)
        return membership.may_read(device) and all(pin.chain != chain for pin in membership.pins_of(device))

    # --- what this device brings --------------------------------------------------------------------------------

    async def to_upload(self, relay: DeviceId, place: UploadPlace, limit: int) -> tuple[list[VersionRow], UploadPlace]:
        """Return up to `limit` versions from `place` on that this device should bring to `relay`, and where they end.

        Oldest first: its own; after them those of devices that are not linked, and may be off for long, whose content
        lies here or at another relay. None at the end.
        """
        while True:
            chains = [chain for chain in self._chains() if self._is_mine(chain, place.others)]
            rows: list[VersionRow] = []
            if chains:
                rows = await self.runtime.in_thread(self.replica.versions.owed, relay, chains, place.after, limit)
            if not rows:
                if place.others:
                    return [], place
                place = UploadPlace(others=True)
                continue
            following = UploadPlace(place.others, (rows[-1].position, rows[-1].dot))
            found = rows if not place.others else self._within_reach(rows)
            if found:
                return found, following
            place = following

    def _is_mine(self, chain: ChainId, others: bool) -> bool:
        device = self._author(chain)
        if device == self.replica.device.device:
            return not others
        return others and device not in self.linked

    def _within_reach(self, rows: list[VersionRow]) -> list[VersionRow]:
        holders = self.holders([row.dot for row in rows]) if len(self.keepers) > 1 else {}
        return [row for row in rows if holders.get(row.dot) or self._lies_here(row)]

    def _lies_here(self, version: VersionRow) -> bool:
        row = self.synced.get(version.node)
        return row is not None and row.content == unpack_content(version.content)
