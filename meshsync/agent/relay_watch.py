"""Watches the relays of one folder: what they signed, for this device and for others, against what was read of them.

Invariant: a relay is convicted only by two of its own signatures, and stays so; every word of a relay is compared with
its log as soon as that was read up to it, whoever brought the word; what a device merely says is a doubt, no proof.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent import evidence_files
from meshsync.agent.changes import Changes
from meshsync.agent.evidence_files import Convicted
from meshsync.errors import IntegrityError, MeshsyncError, ResourceError
from meshsync.ids import DeviceId, EntryId, FolderId, short
from meshsync.index.database import Database
from meshsync.index.relay_log_rows import RelayLogRows
from meshsync.index.relay_rows import RelayCursor, RelayRows
from meshsync.limits import RELAY_CLAIMS_MAX, RELAY_HEADS_HEARD_MAX, RELAY_WORDS_WAITING_MAX, RETRY_BLOCKED_S
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.evidence import (
    Evidence,
    compare_along,
    compare_heads,
    encode_evidence,
    open_word,
    verify_evidence,
)
from meshsync.metalog.fields import RelaySeen
from meshsync.metalog.head import LogHead, head_hash, open_head
from meshsync.runtime import Runtime
from meshsync.wire.peer_messages import RelayHeadSeen

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doubt:
    """By its signed `entry`, `device` read another log at the relay up to `index` than this device did: one of the two,
    or the relay, is wrong, and only the relay's own signature can tell which.
    """

    device: DeviceId
    entry: EntryId
    index: int
    since_ns: int


class RelayWatch:
    """Belongs to one loop. `relays()` are those of the folder now; `changes` tells that members know more of one."""

    def __init__(
        self,
        runtime: Runtime,
        folder: FolderId,
        database: Database,
        directory: Path,
        relays: Callable[[], Collection[DeviceId]],
        on_change: Callable[[], None],
    ) -> None:
        """Load what was found before. Blocking."""
        self.directory = directory
        self.convicted: dict[DeviceId, Convicted] = evidence_files.kept(directory, folder)
        self.doubts: dict[DeviceId, Doubt] = {}
        self.log = RelayLogRows(database)
        self.changes = Changes()
        self._runtime = runtime
        self._folder = folder
        self._rows = RelayRows(database)
        self._relays = relays
        self._on_change = on_change
        self._cursors: dict[DeviceId, RelayCursor] = {}
        self._newest: dict[DeviceId, tuple[int, bytes]] = {}  # the signed head with the greatest index
        self._own: dict[DeviceId, tuple[int, bytes]] = {}  # the same, of those that the relay sent to this device
        self._told: dict[DeviceId, int] = {}  # the greatest index that a member brought
        self._heard: dict[bytes, None] = {}  # heads of members that were taken, the oldest first
        self._waiting: dict[DeviceId, dict[tuple[int, bytes], bytes]] = {}  # words by (index, head)
        self._anchor: dict[DeviceId, tuple[int, bytes]] = {}  # the newest word that the log read here leads to
        self._claims: dict[DeviceId, dict[DeviceId, tuple[RelaySeen, EntryId]]] = {}
        self._unwritten: list[tuple[Convicted, Evidence]] = []
        self._writing = asyncio.Lock()
        for relay in relays():
            self._know(relay)

    def _know(self, relay: DeviceId) -> RelayCursor | None:
        cursor = self._cursors.get(relay)
        if cursor is None and (cursor := self._rows.cursor(relay)) is not None:
            self._cursors[relay] = cursor
            if cursor.signed:
                self.hear(relay, cursor.signed)
        return cursor

    # --- what others ask --------------------------------------------------------------------------------------------

    def is_convicted(self, relay: DeviceId) -> bool:
        """Whether the relay is proven to have shown two logs of this folder: it is never believed again."""
        return relay in self.convicted

    def heads(self) -> tuple[RelayHeadSeen, ...]:
        """Return the newest head that each of the folder's relays signed for this device, for members to compare."""
        return tuple(RelayHeadSeen(self._own[relay][1]) for relay in sorted(self._relays()) if relay in self._own)

    def seen(self) -> tuple[RelaySeen, ...]:
        """Return how far each relay's log was read and verified, for this device's next entry."""
        read = ((relay, self._cursors.get(relay)) for relay in sorted(self._relays()) if relay not in self.convicted)
        return tuple(RelaySeen(relay, cursor.index, cursor.head) for relay, cursor in read if cursor and cursor.index)

    def newest(self, relay: DeviceId) -> bytes:
        """Return the signed head to show the relay, so that it cannot show less; empty if none is known."""
        self._know(relay)
        return self._newest[relay][1] if relay in self._newest else b""

    def words(self, relay: DeviceId) -> list[bytes]:
        """Return what the relay signed, as far as it is known here and not compared yet, and the newest that was."""
        anchor = self._anchor.get(relay)
        return [*self._waiting.get(relay, {}).values(), *([anchor[1]] if anchor else [])]

    def knows_more(self, relay: DeviceId, index: int) -> bool:
        """Whether a member brought a head of the relay's that is beyond `index`."""
        return self._told.get(relay, 0) > index

    # --- what is heard ----------------------------------------------------------------------------------------------

    def hear(self, relay: DeviceId, signed: bytes) -> LogHead:
        """Take a head that the relay itself sent. Raises as `open_head`, IntegrityError for another relay's."""
        head = open_head(signed, self._folder)
        if head.device != relay:
            raise IntegrityError("a log head of another relay", device=short(relay), folder=short(self._folder))
        if head.index >= self._own.get(relay, (0, b""))[0]:
            self._own[relay] = (head.index, signed)
        self._note(relay, head, signed)
        return head

    def hear_receipt(self, relay: DeviceId, signed: bytes) -> None:
        """Take a verified receipt of the relay: it commits to the log before it as a head does."""
        word = open_word(signed, self._folder)
        if word.device == relay:
            self._wait(relay, word.index, word.head, signed)

    async def answered(self, relay: DeviceId, signed: bytes, shown: bytes) -> LogHead:
        """Take the relay's answer to the head `shown`.

        Raises IntegrityError, after the evidence was kept, if it contradicts that one; and if it does not answer it.
        """
        head = open_head(signed, self._folder)
        if shown and head.device == relay:
            evidence = compare_heads(shown, signed, self._folder)
            if evidence is not None:
                await self.convict(evidence)
                raise IntegrityError("the relay contradicts its own signed log head")
        if head.after != (head_hash(shown) if shown else b""):
            raise IntegrityError("the relay does not answer the log head that it was shown")
        return self.hear(relay, signed)

    def told(self, heads: Iterable[RelayHeadSeen]) -> None:
        """Compare the heads that a member was shown; one that does not verify, or is of no relay here, says nothing."""
        for item in heads:
            if item.signed in self._heard:
                continue
            try:
                head = open_head(item.signed, self._folder)
            except MeshsyncError as error:
                log.warning("a member shows a relay's head that does not verify: %s", error)
                continue
            if head.device not in self._relays() or head.device in self.convicted:
                continue
            self._heard[item.signed] = None
            if len(self._heard) > RELAY_HEADS_HEARD_MAX:
                del self._heard[next(iter(self._heard))]
            self._know(head.device)
            self._note(head.device, head, item.signed)
            self._told[head.device] = max(head.index, self._told.get(head.device, 0))
            self.changes.note()

    def entries(self, entries: Iterable[OpenedEntry], own: DeviceId) -> None:
        """Compare what the authors of delivered entries say that they read at the relays."""
        for entry in entries:
            for seen in entry.envelope.relay_seen if entry.device != own else ():
                claims = self._claims.setdefault(seen.relay, {})
                if seen.relay in self._relays() and (entry.device in claims or len(claims) < RELAY_CLAIMS_MAX):
                    claims[entry.device] = (seen, entry.id)  # a head commits to all before it: the newest says all
                    self.changes.note()

    def read(self, relay: DeviceId, cursor: RelayCursor) -> None:
        """Hear that the relay's log was read up to `cursor`, and that the index says so."""
        self._cursors[relay] = cursor

    def _note(self, relay: DeviceId, head: LogHead, signed: bytes) -> None:
        if relay not in self._newest or head.index > self._newest[relay][0]:
            self._newest[relay] = (head.index, signed)
        self._wait(relay, head.index, head.head, signed)

    def _wait(self, relay: DeviceId, index: int, head: bytes, signed: bytes) -> None:
        waiting = self._waiting.setdefault(relay, {})
        waiting[index, head] = signed
        while len(waiting) > RELAY_WORDS_WAITING_MAX:
            del waiting[next(iter(waiting))]

    # --- comparing --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Compare whatever is heard, until cancelled; with relays that are not linked too."""
        count = -1
        while True:
            if self._unwritten:
                await self._runtime.sleep(RETRY_BLOCKED_S)
                await self._write()
                continue
            count = await self.changes.after(count)
            try:
                for relay in list(self._relays()):
                    await self.settle(relay)
            except ResourceError as error:  # the index cannot be read now
                log.warning("what relays signed is not compared yet: %s", error)
                await self._runtime.sleep(RETRY_BLOCKED_S)
                count = -1

    async def settle(self, relay: DeviceId) -> None:
        """Compare what was heard of the relay with its log, as far as that was read here."""
        cursor = self._know(relay)
        if cursor is None or self.is_convicted(relay):
            return
        waiting = self._waiting.get(relay, {})
        claims = self._claims.get(relay, {})
        due = sorted(place for place in waiting if place[0] <= cursor.index)
        due_claims = {device: claim for device, claim in claims.items() if claim[0].index <= cursor.index}
        if not due and not due_claims:
            return
        indexes = {index for index, _ in due} | {seen.index for seen, _ in due_claims.values()}
        known = await self._runtime.in_thread(lambda: {at: self.log.head_at(relay, at) for at in indexes})
        differing = []
        for place in due:
            if known[place[0]] is None:
                continue  # an index of an earlier format is being read once more
            if known[place[0]] != place[1]:
                differing.append(waiting.get(place, b""))
                continue
            if place in waiting and place[0] >= self._anchor.get(relay, (0, b""))[0]:
                self._anchor[relay] = (place[0], waiting[place])
            waiting.pop(place, None)
        for device, (seen, entry) in due_claims.items():
            if known[seen.index] is not None and claims.get(device) == (seen, entry):
                del claims[device]
                self._weigh(relay, device, entry, seen, known[seen.index])
        for signed in filter(None, differing):
            await self._prove(relay, signed)

    def _weigh(self, relay: DeviceId, device: DeviceId, entry: EntryId, seen: RelaySeen, known: bytes | None) -> None:
        if known != seen.head and relay not in self.doubts:
            log.error("device %s read another log at relay %s", short(device), short(relay))
            self.doubts[relay] = Doubt(device, entry, seen.index, self._runtime.wall_time_ns())
            self._on_change()

    async def _prove(self, relay: DeviceId, signed: bytes) -> None:
        """Convict the relay of a word that its log does not lead to, once that log itself was signed as far."""
        anchor = self._anchor.get(relay)
        if anchor is None or relay in self.convicted:
            return

        def compare() -> Evidence | None:
            return compare_along(
                signed,
                anchor[1],
                self._folder,
                lambda index: self.log.head_at(relay, index),
                lambda after, last: self.log.ids_after(relay, after, last),
            )

        evidence = await self._runtime.in_thread(compare)
        if evidence is not None:
            await self.convict(evidence)

    async def convict(self, evidence: Evidence) -> None:
        """Keep verified evidence, and believe the relay never again. A relay that is convicted already stays so."""
        proven = verify_evidence(encode_evidence(evidence))
        if proven.relay in self.convicted:
            return
        log.error("relay %s of folder %s: %s is proven", short(proven.relay), short(self._folder), proven.fault.name)
        found = evidence_files.place(self.directory, proven, self._runtime.wall_time_ns())
        self.convicted[proven.relay] = found
        self.doubts.pop(proven.relay, None)
        self._unwritten.append((found, evidence))
        await self._write()
        self.changes.note()
        self._on_change()

    async def _write(self) -> None:
        async with self._writing:
            while self._unwritten:
                try:
                    await self._runtime.in_thread(evidence_files.keep, *self._unwritten[0])
                except ResourceError as error:
                    log.warning("evidence is not written yet: %s", error)
                    self.changes.note()
                    return
                self._unwritten.pop(0)
