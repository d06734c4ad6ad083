"""One folder's log on this device: membership, keys, chains, and the view they give. Persisted before it is believed.

Invariant: what is in memory is what the index holds; an entry is in the view exactly if it is in the index. Every
change passes through one lock, is written in one transaction, and is told to `changes` afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from meshsync.agent.changes import Changes
from meshsync.agent.history import version_rows
from meshsync.agent.index_mark import IndexMark, Since
from meshsync.agent.kept_keys import write_kept
from meshsync.agent.key_ring import keys_from_boxes, merged
from meshsync.codec.canonical import decode, encode
from meshsync.content.batch import UNNAMED_CHAIN, Batch, decode_batch, encode_batch
from meshsync.content.record import Op
from meshsync.content.seal import BlobKind, seal_chunk, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, MeshsyncError, RoleForbids
from meshsync.ids import ChainId, DeviceId, Dot, EntryId, NodeId, RecordId, dot, short
from meshsync.index.database import Database
from meshsync.index.log_rows import EntryRow, LogRows
from meshsync.index.meta import Meta
from meshsync.index.version_rows import VersionRow, VersionRows
from meshsync.limits import (
    ENTRY_BATCH_BYTES_MAX,
    ENTRY_ENVELOPE_BYTES_MAX,
    OVERTAKEN_TOLD_MAX,
    RECORDS_PAGE_ITEMS_MAX,
    REFUSED_TOLD_MAX,
    RETRY_BLOCKED_S,
    SEEN_MAX,
)
from meshsync.metalog.admission import beyond_pins, is_apart, may_append_entry
from meshsync.metalog.chain import Accepted, ChainSet, Delivered, Row
from meshsync.metalog.entry import (
    Envelope,
    OpenedEntry,
    SignedEntry,
    make_entry,
    make_envelope,
    open_entry,
    parse_entry,
)
from meshsync.metalog.fields import ChainHead, RelaySeen
from meshsync.metalog.membership import Membership, replay
from meshsync.metalog.membership_entry import (
    Admit,
    Change,
    OpenedMembership,
    Rekey,
    Remove,
    open_membership,
    sign_change,
)
from meshsync.metalog.membership_merge import merge
from meshsync.runtime import Runtime
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.marks import Marks
from meshsync.sync.view import View
from meshsync.wire.peer_messages import Heads, RelayHeadSeen

log = logging.getLogger(__name__)

OWN_CHAIN_KEY = "own chain"
INDEX_PLACE_KEY = "index place"
INDEX_BOOT_KEY = "index boot"
DOUBT_KEY = "own chain doubted"  # there while nobody has confirmed the newest own entry
LISTED_KEY = "entries listed"  # how many entries, in order, have their rows in the version table


P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A membership change that lost against one that `winner` made at the same time.

    Its author makes it again; of this device's own, `why_not` says why that could not be, if it could not.
    """

    entry: OpenedMembership
    winner: DeviceId
    why_not: str


def _whole(
    change: Callable[Concatenate[Replica, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Replica, P], Coroutine[Any, Any, T]]:
    """Let a change that was begun end, though who asked for it is cancelled: a link that ends, a request given up.

    Cut off half-way, it would leave entries that count as held and are neither in the index nor in the view.
    """

    async def run(self: Replica, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.shield(self._runtime.spawn(change(self, *args, **kwargs), "change of the log"))

    run.__doc__ = change.__doc__
    return run


class Replica:
    """Belongs to one loop; blocking work runs in threads."""

    def __init__(
        self,
        runtime: Runtime,
        database: Database,
        device: DeviceKeys,
        membership: Sequence[OpenedMembership],
        keys: FolderKeys,
        keys_path: Path,
    ) -> None:
        """Open a folder whose membership chain and keys are known; `load` must follow."""
        self.folder = keys.folder
        self.changes = Changes()
        self.device = device
        self.keys = keys
        self.membership: Membership = replay(membership, keys.folder)
        self.membership_chain: list[OpenedMembership] = list(membership)
        self._keepers: tuple[RecordId, tuple[DeviceId, ...]] | None = None  # of the membership head
        self._membership_at: dict[RecordId, int] = {entry.id: at for at, entry in enumerate(membership)}
        self.chains = ChainSet()
        self.view = View()
        self.marks = Marks()
        self.dirty: set[NodeId] = set()
        self._shown_again: set[Dot] = set()  # shown by something that came last; they may have been let go of
        self.ticket_keys: DeviceKeys | None = None  # of the ticket that admitted this device, while it runs
        self.unreadable: dict[EntryId, MeshsyncError] = {}
        self.key_problem: MeshsyncError | None = None  # why the current epoch's key is not held
        self.refused: dict[DeviceId, AccessError] = {}  # who signed what it may not, and what it was told
        self.overtaken: list[Overtaken] = []  # what lost against a change of another owner, newest last
        self.renew: Callable[[Change], Change | None] = lambda change: change  # makes a change anew that lost
        self.relay_heads: Callable[[], tuple[RelayHeadSeen, ...]] = tuple  # what relays signed, to tell members
        self.relay_seen: Callable[[], tuple[RelaySeen, ...]] = tuple  # how far relays were read, for the next entry
        self.heard: Callable[[Sequence[OpenedEntry]], None] = lambda entries: None  # is given delivered entries
        self.quarantined: set[EntryId] = set()
        self.shown_anew = 0  # how often the view was made again from the log: then everything is to be planned
        self.applied: tuple[ChainHead, ...] = ()
        self.log_rows = LogRows(database)
        self.versions = VersionRows(database)
        self.meta = Meta(database)
        self._runtime = runtime
        self.database = database
        self._keys_path = keys_path
        self._lock = asyncio.Lock()
        self._own: ChainHead | None = None
        self._own_is_doubted = False
        self._unlisted: list[VersionRow] = []
        self._lists_again: asyncio.Task[None] | None = None
        self._seen_before: set[ChainHead] = set()

    # --- start ---------------------------------------------------------------------------------------------

    def load(self, mark: IndexMark) -> None:
        """Rebuild chains and view from the index, which is what `mark` says. Blocking; call once before anything else.

        An index that came back from a backup opens a new chain: two entries of one chain with one number would be two
        truths under one name. In a system that was started again since, which a restored image of the whole disk is
        too, it goes on with its chain only once somebody has said that this is the chain's newest entry.
        """
        self._take_keys()
        self.chains = ChainSet(Row(*link) for link in self.log_rows.entry_links())
        listed = int.from_bytes(self.meta.get(LISTED_KEY) or b"", "big")
        rows: list[VersionRow] = []
        for count, row in enumerate(self.log_rows.entries(), 1):
            signed = SignedEntry(row.envelope, row.signature, row.payload)
            envelope = decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX)
            opened = OpenedEntry(row.id, row.chain, envelope, signed)
            fresh = self._apply(opened, row.time)
            if count > listed:
                rows.extend(fresh)
            if opened.device == self.device.device:
                self._seen_before.update(envelope.seen)
        self._list_versions(rows)
        own = self.meta.get(OWN_CHAIN_KEY)
        if own is not None:
            held = self.chains.rows(ChainId(own))
            self._own = held[-1].head if held else None
        place, boot = self.meta.get(INDEX_PLACE_KEY), self.meta.get(INDEX_BOOT_KEY)
        if place is not None and place != mark.place:
            self._own = None
        if place is not None and mark.since is Since.CHANGED:
            self._own = None
        was_doubted = self.meta.get(DOUBT_KEY) is not None
        self._own_is_doubted = was_doubted or (boot is not None and (boot != mark.boot or mark.since is Since.CUT_OFF))
        with self.database.transaction():
            self.versions.account(self.keepers)
            self.meta.set(INDEX_PLACE_KEY, mark.place)
            self.meta.set(INDEX_BOOT_KEY, mark.boot)
            if self._own is None:
                self.meta.delete(OWN_CHAIN_KEY)
            if self._own_is_doubted:  # to end and start again resolves no doubt
                self.meta.set(DOUBT_KEY, b"1")
        self.dirty.clear()

    def confirm_own(self, heads: Collection[ChainHead]) -> None:
        """Somebody holds `heads`: if this device's newest entry is among them, its chain can go on."""
        if self._own_is_doubted and self._own in heads:
            self.meta.delete(DOUBT_KEY)
            self._own_is_doubted = False

    @property
    def own(self) -> ChainHead | None:
        """The newest entry of the chain that this device extends, None if it is about to open one."""
        return self._own

    async def close(self) -> None:
        """Wait until no change is under way. Nobody may begin another."""
        if self._lists_again is not None:
            self._lists_again.cancel()
        async with self._lock:
            pass

    def newest_entries(self) -> list[OpenedEntry]:
        """Return the newest entry of every branch of every chain. Blocking."""
        found = []
        for head in self.chains.heads():
            row = self.log_rows.entry(head.entry)
            if row is not None:
                signed = SignedEntry(row.envelope, row.signature, row.payload)
                envelope = decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX)
                found.append(OpenedEntry(row.id, row.chain, envelope, signed))
        return found

    # --- what others ask ------------------------------------------------------------------------------------

    def heads(self) -> Heads:
        """Return what this side holds."""
        chains = tuple(self.chains.heads())
        return Heads(len(self.membership_chain), self.membership.head, chains, self.applied, self.relay_heads())

    @property
    def keepers(self) -> tuple[DeviceId, ...]:
        """The relays and backups that the folder is to be stored at."""
        head = self.membership.head
        if self._keepers is None or self._keepers[0] != head:
            self._keepers = (head, self.membership.keepers())
        return self._keepers[1]

    def has_membership(self, head: RecordId) -> bool:
        """Whether the membership chain here contains `head`."""
        return head in self._membership_at

    def membership_at(self, head: RecordId) -> Membership | None:
        """Return the membership after the entry `head` of the chain here, None if it is not in it."""
        at = self._membership_at.get(head)
        return None if at is None else replay(self.membership_chain[: at + 1], self.folder)

    def membership_page(self, start: int, bytes_max: int) -> list[bytes]:
        """Return membership entries from `start` on, at most `bytes_max` bytes but at least one if there is any."""
        page: list[bytes] = []
        size = 0
        for entry in self.membership_chain[start:]:
            size += len(entry.data)
            if page and size > bytes_max:
                break
            page.append(entry.data)
        return page

    def membership_count(self) -> int:
        """Return the length of the membership chain."""
        return len(self.membership_chain)

    def has_open_ticket(self, ticket: DeviceId) -> bool:
        """Whether an invitation with this ticket key is open here and not expired."""
        invite = self.membership.invites.get(ticket)
        return invite is not None and invite.expires_s >= self._runtime.wall_time_ns() // 10**9

    def lacks(self, heads: tuple[ChainHead, ...]) -> bool:
        """Whether any of `heads` is not delivered here."""
        return any(head.entry not in self.chains for head in heads)

    def entries_for(self, heads: tuple[ChainHead, ...], bytes_max: int) -> tuple[list[bytes], bool]:
        """Return entries that a holder of `heads` lacks, in causal order, and whether there are more. Blocking."""
        rows = self.chains.missing_for(heads, RECORDS_PAGE_ITEMS_MAX)
        page: list[bytes] = []
        size = 0
        for row in rows:
            kept = self.log_rows.entry(row.id)
            if kept is None:
                break
            data = encode(SignedEntry(kept.envelope, kept.signature, kept.payload))
            size += len(data)
            if page and size > bytes_max:
                return page, True
            page.append(data)
        return page, len(rows) == RECORDS_PAGE_ITEMS_MAX

    # --- entries --------------------------------------------------------------------------------------------

    @_whole
    async def append(
        self, build: Callable[[ChainId, int], Sequence[Op]], also: Callable[[OpenedEntry], None]
    ) -> OpenedEntry | None:
        """Publish one entry of this device; `build` makes its operations for (chain, seq), none for no entry.

        `also` writes, in the same transaction, what becomes true with the entry. Returns after it is durable here and
        in the view. Raises RoleForbids if this device may not write.
        """
        async with self._lock:
            if not self.membership.may_write(self.device.device):
                raise RoleForbids("this device may read the folder, not write it", folder=short(self.folder))
            if self.key_problem is not None:
                raise self.key_problem
            own = None if self._own_is_doubted or self._own_has_ended() else self._own
            chain, seq = (UNNAMED_CHAIN, 1) if own is None else (own.chain, own.seq + 1)
            ops = build(chain, seq)
            if not ops:
                return None
            seen = self._newly_seen(own)
            entry = await self._runtime.in_thread(self._sign, ops, chain, own, seen)
            outcome = self.chains.accept(entry)
            assert isinstance(outcome, Accepted), "an own entry follows what this device has"

            def publish() -> None:
                also(entry)
                self.meta.set(OWN_CHAIN_KEY, entry.chain)
                self.meta.delete(DOUBT_KEY)

            await self._keep(outcome.delivered, publish)
            self._own, self._own_is_doubted = entry.head, False
            self._seen_before.update(seen)
            await self._believe(outcome.delivered)
            return entry

    def _own_has_ended(self) -> bool:
        """Whether this device's chain was pinned, and a later role lets it write again: in a new chain."""
        own = self._own
        return own is not None and any(pin.chain == own.chain for pin in self.membership.pins_of(self.device.device))

    def _newly_seen(self, own: ChainHead | None) -> tuple[ChainHead, ...]:
        fresh = [
            head
            for head in self.chains.heads()
            if head not in self._seen_before and (own is None or head.chain != own.chain)
        ]
        return tuple(fresh[:SEEN_MAX])

    def _sign(
        self, ops: Sequence[Op], chain: ChainId, own: ChainHead | None, seen: tuple[ChainHead, ...]
    ) -> OpenedEntry:
        batch = encode_batch(ops, chain, self._runtime.wall_time_ns())
        payload = seal_chunk(self.keys, self.keys.current, BlobKind.BATCH, batch)
        envelope = make_envelope(
            self.device,
            self.folder,
            after=own,
            membership=self.membership.head,
            epoch=self.keys.current,
            payload=payload,
            op_count=len(ops),
            seen=seen,
            relay_seen=self.relay_seen(),
        )
        return make_entry(self.device, envelope, payload)

    @_whole
    async def receive_entries(self, entries: tuple[bytes, ...]) -> bool:
        """Take entries from a peer or relay, each verified; return whether any was new.

        An entry whose author may not write is passed over. Raises MalformedMessage, SignatureInvalid, IntegrityError
        for one that is broken, after the others were taken.
        """
        async with self._lock:
            opened = await self._runtime.in_thread(self._open_all, entries)
            delivered: list[Delivered] = []
            error: MeshsyncError | None = None
            for entry in opened:
                try:
                    if isinstance(entry, MeshsyncError):
                        raise entry
                    self._admit_entry(entry)
                    outcome = self.chains.accept(entry)
                except AccessError as refusal:
                    # Of somebody who may not write, or not any more: its bearer need not be at fault.
                    log.warning("an entry is refused: %s", refusal)
                    if isinstance(entry, OpenedEntry) and len(self.refused) < REFUSED_TOLD_MAX:
                        self.refused[entry.device] = refusal
                except MeshsyncError as broken:
                    error = error or broken
                else:
                    if isinstance(outcome, Accepted):
                        delivered.extend(outcome.delivered)
                        for alarm in outcome.alarms:
                            log.error("device %s goes on with two branches of one chain", short(alarm.device))
            if delivered:
                await self._keep(tuple(delivered), self._note_left)
                await self._believe(tuple(delivered))
                self.heard([item.entry for item in delivered])
                if self._pins_reached(delivered):
                    self._judge_anew()
            if error is not None:
                raise error
            return bool(delivered)

    def _open_all(self, entries: tuple[bytes, ...]) -> list[OpenedEntry | MeshsyncError]:
        opened: list[OpenedEntry | MeshsyncError] = []
        for data in entries:
            try:
                opened.append(open_entry(parse_entry(data), self.folder))
            except MeshsyncError as error:
                opened.append(error)
        return opened

    def _admit_entry(self, entry: OpenedEntry) -> None:
        refusal = may_append_entry(self.membership, entry, self.chains)
        if refusal is not None and not is_apart(refusal):
            raise refusal.error()
        own = self._own
        if own is not None and entry.chain == own.chain and entry.id not in self.chains:
            # This index is older than the device: somebody has entries of ours that it lacks. Open a new chain.
            self._own = None

    def _note_left(self) -> None:
        """Remember that the own chain was left, if it was: what others tell of it may not be the end of it."""
        if self._own is None:
            self.meta.delete(OWN_CHAIN_KEY)

    async def _keep(self, delivered: Sequence[Delivered], also: Callable[[], None] = lambda: None) -> None:
        rows = [
            EntryRow(
                item.row.id,
                item.row.chain,
                item.row.device,
                item.row.seq,
                item.row.time,
                item.row.prev,
                item.entry.signed.envelope,
                item.entry.signed.signature,
                item.entry.signed.payload,
            )
            for item in delivered
        ]
        try:
            await self._runtime.in_thread(self._write, rows, also)
        except MeshsyncError:
            # What is in memory and not in the index would be told to others, and never be given to them or taken again.
            self.chains = self.chains.without({row.id for row in rows})
            raise

    def _write(self, rows: list[EntryRow], also: Callable[[], None]) -> None:
        with self.database.transaction():
            also()
            self.log_rows.append_entries(rows)

    async def _believe(self, delivered: Sequence[Delivered]) -> None:
        rows: list[VersionRow] = []
        for item in delivered:
            rows.extend(self._apply(item.entry, item.row.time))
        self._unlisted += rows
        await self._runtime.in_thread(self._list)
        if self._unlisted and self._lists_again is None:
            self._lists_again = self._runtime.spawn(self._list_again(), "list versions")
        self.changes.note()

    async def _list_again(self) -> None:
        """What is not listed is brought to no relay: list it as soon as the index takes it."""
        while self._unlisted:
            await self._runtime.sleep(RETRY_BLOCKED_S)
            async with self._lock:
                await self._runtime.in_thread(self._list)
        self._lists_again = None
        self.changes.note()

    def _list(self) -> None:
        try:
            self._list_versions(tuple(self._unlisted))
            self._unlisted.clear()
            self._shown_again.clear()
        except MeshsyncError as error:  # they are listed with the next ones, or a little later
            log.warning("versions are not listed yet: %s", error)

    def _list_versions(self, rows: Sequence[VersionRow]) -> None:
        with self.database.transaction():
            self.versions.add(rows)
            again = {name for name in self._shown_again if self.view.is_shown(name)}  # and not only in between
            if again:
                self.versions.bring_again(again)
            self.meta.set(LISTED_KEY, len(self.chains).to_bytes(8, "big"))

    def _apply(self, entry: OpenedEntry, time: int) -> list[VersionRow]:
        """Bring one delivered entry into the view; return its rows of history."""
        if self._is_quarantined(entry):
            self.quarantined.add(entry.id)
            self.view.void(entry.chain, entry.envelope.seq)
            return []
        try:
            batch = self.read(entry)
            rows = version_rows(self.view, entry.chain, entry.envelope.seq, time, batch.time_ns, batch.ops)
            self._show(entry, time, batch.ops)
            seq, ops = entry.envelope.seq, batch.ops
            self.marks.take(entry.id, entry.device, entry.chain, seq, time, batch.time_ns, ops)
        except (IntegrityError, MalformedMessage, AccessError) as error:
            # Signed by a member, but sealed under no known key or ill-formed. It changes nothing; it still has its
            # place in the order, because the entries that follow it are not worse for it.
            error.device, error.folder = short(entry.device), short(self.folder)
            self.unreadable[entry.id] = error
            log.warning("entry %s: %s", short(entry.id), error)
            self._show(entry, time, ())
            return []
        return rows

    def _is_quarantined(self, entry: OpenedEntry) -> bool:
        """Whether a removed device signed the entry after its last accepted one (`semantics.md` 4.5)."""
        refusal = may_append_entry(self.membership, entry, self.chains)
        return refusal is not None and is_apart(refusal)

    def _judge_anew(self, has_more_keys: bool = False) -> None:
        """Show the log anew if an entry is to be shown now and was not, or the other way round.

        So it is as a replay of the index gives it: a pin may be set, or lose against another owner's change; the entry
        that it names may come later than those it does not cover; a key may come later than what it opens. Blocking for
        a large log.
        """
        off = beyond_pins(self.membership, self.chains)
        if off == self.quarantined and not (has_more_keys and self.unreadable):
            return
        if off != self.quarantined:
            log.warning("%d entries of removed devices are in quarantine, %d were", len(off), len(self.quarantined))
        self._show_anew()
        self.shown_anew += 1

    def _pins_reached(self, delivered: Sequence[Delivered]) -> bool:
        """Whether one of these entries is the last accepted one of a removed device: now it tells branches apart."""
        pins = {pin.entry for pins in self.membership.pins.values() for pin in pins}
        return any(item.row.id in pins for item in delivered)

    def _show_anew(self) -> None:
        """Make the view again from the log, before anybody looks at it.

        What can be read now and could not before enters the history. Blocking for a large log.
        """
        self.view, self.marks = View(), Marks()
        unread = self.unreadable.keys() | self.quarantined
        self.unreadable.clear()
        self.quarantined.clear()
        rows: list[VersionRow] = []
        for row in self.log_rows.entries():
            signed = SignedEntry(row.envelope, row.signature, row.payload)
            envelope = decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX)
            fresh = self._apply(OpenedEntry(row.id, row.chain, envelope, signed), row.time)
            if row.id in unread:
                rows.extend(fresh)
        self._unlisted += rows
        self._list()

    def read(self, entry: OpenedEntry) -> Batch:
        """Return the operations of an entry. Blocking. Raises IntegrityError, MalformedMessage, AccessError."""
        envelope = entry.envelope
        data = unseal_chunk(self.keys, envelope.epoch, BlobKind.BATCH, entry.signed.payload, ENTRY_BATCH_BYTES_MAX)
        batch = decode_batch(data, entry.chain, envelope.seq)
        if len(batch.ops) != envelope.op_count:
            raise MalformedMessage(f"{len(batch.ops)} operations where the envelope states {envelope.op_count}")
        return batch

    def _show(self, entry: OpenedEntry, time: int, ops: Sequence[Op]) -> None:
        delivered = DeliveredEntry(entry.device, entry.chain, entry.envelope.seq, time, tuple(ops))
        changed = self.view.apply(delivered)
        self.dirty |= changed
        if self.versions.any_let_go:
            nodes = (self.view.nodes.get(node) for node in changed)
            self._shown_again.update(name for node in nodes if node for face in node.faces for name in face.versions)

    def entries_at_relay(self, relay: DeviceId, entries: Sequence[RecordId]) -> None:
        """Note that the log of `relay` holds these entries: their removals and renames are there. Blocking."""
        dots = []
        for entry in entries:
            row = self.chains.row(EntryId(entry))
            if row is not None:
                dots.append((dot(row.chain, row.seq, 0), dot(row.chain, row.seq, 0xFFFFFFFF)))
        self.versions.mark_contentless_stored(relay, dots)

    # --- membership -----------------------------------------------------------------------------------------

    async def change_membership(self, change: Change) -> OpenedMembership:
        """Sign and append one membership change of this device. Raises AccessError if it may not."""
        entry = await self.propose(lambda: change)
        assert entry is not None
        return entry

    @_whole
    async def propose(self, build: Callable[[], Change | None]) -> OpenedMembership | None:
        """Sign and append the change that `build` makes for the membership as it then is; None if that is nothing.

        `build` runs in a thread while no other change is made. Raises AccessError if this device may not make it, and
        what `build` raises; then nothing has changed.
        """
        async with self._lock:
            change = await self._runtime.in_thread(build)
            if change is None:
                return None
            entry = sign_change(self.device, self.folder, self.membership.head, self.membership.seq + 1, change)
            await self._extend_membership([entry])
            return entry

    @_whole
    async def admit(self, data: bytes) -> None:
        """Append a newcomer's entry that it presents itself. Raises AccessError, IntegrityError, MalformedMessage."""
        entry = open_membership(data)
        async with self._lock:
            self.membership.apply(entry, self._runtime.wall_time_ns() // 10**9)
            await self._extend_membership([entry])

    @_whole
    async def receive_membership(self, start: int, entries: tuple[bytes, ...], ordered: bool = False) -> bool:
        """Take membership entries that begin at position `start`; return whether the chain here changed.

        Of two chains that fork, the one that a relay `ordered` stands, else the one that a rule over both picks. Own
        changes that lost are made again on top. Raises what verification raises.
        """
        opened = await self._runtime.in_thread(lambda: [open_membership(data) for data in entries])
        async with self._lock:
            fresh = [entry for entry in opened if entry.id not in self._membership_at]
            if not fresh:
                return False
            base = fresh[0].body.seq
            if base > len(self.membership_chain) or base == 0:
                return False
            if fresh[0].body.prev != self.membership_chain[base - 1].id:
                return False  # a fork further below: the caller asks from the beginning
            mine = self.membership_chain[base:]
            if not mine:
                await self._extend_membership(fresh)
                return True
            return await self._settle(base, mine, fresh, ordered)

    async def _settle(
        self, base: int, mine: list[OpenedMembership], theirs: list[OpenedMembership], ordered: bool
    ) -> bool:
        below = replay(self.membership_chain[:base], self.folder)
        if ordered:
            membership, winners, losers = below, theirs, mine
            for entry in theirs:
                membership = membership.apply(entry)
        else:
            outcome = merge(below, mine, theirs)
            if outcome.winners[0].id == mine[0].id:
                for entry in theirs:
                    self._overtake(entry, mine[0].author, "")
                return False
            membership, winners, losers = outcome.membership, list(outcome.winners), mine
        await self._change_membership([*self.membership_chain[:base], *winners], membership, base)
        for entry in losers:
            own = entry.author == self.device.device
            self._overtake(entry, winners[0].author, await self._propose_again(entry.change) if own else "")
        return True

    def _overtake(self, entry: OpenedMembership, winner: DeviceId, why_not: str) -> None:
        if entry.author != winner and all(one.entry.id != entry.id for one in self.overtaken):
            self.overtaken = [*self.overtaken, Overtaken(entry, winner, why_not)][-OVERTAKEN_TOLD_MAX:]

    async def _propose_again(self, change: Change) -> str:
        """Make a change again that lost; return why that cannot be, or nothing."""
        ticket = self.ticket_keys if isinstance(change, Admit) else None
        try:
            again = await self._runtime.in_thread(self.renew, change)
            if again is None:
                return "it is not needed any more, or its ticket is not known here any more"
            entry = sign_change(
                self.device, self.folder, self.membership.head, self.membership.seq + 1, again, ticket=ticket
            )
            await self._extend_membership([entry])
        except MeshsyncError as error:
            log.warning("a membership change of this device lost against another and cannot be made again: %s", error)
            return error.what
        return ""

    async def _extend_membership(self, entries: Sequence[OpenedMembership]) -> None:
        membership = self.membership
        for entry in entries:
            membership = membership.apply(entry)
        await self._change_membership([*self.membership_chain, *entries], membership, len(self.membership_chain))

    async def _change_membership(self, chain: list[OpenedMembership], membership: Membership, start: int) -> None:
        """Stand on another chain, whose entries from `start` on are new. If it cannot be written, all is as before."""
        before = self.membership_chain, self.membership, self._membership_at, self.keys, self.key_problem
        self.membership_chain, self.membership = chain, membership
        self._membership_at = {entry.id: at for at, entry in enumerate(chain)}
        try:
            if self.unreadable or self.quarantined:
                # What is shown from now on enters the history, at the next start if this one does not come to it.
                await self._runtime.in_thread(self.meta.delete, LISTED_KEY)
            has_more = await self._runtime.in_thread(self._take_keys)
            await self._runtime.in_thread(self._write_membership, start)
        except MeshsyncError:
            self.membership_chain, self.membership, self._membership_at, self.keys, self.key_problem = before
            raise
        self._judge_anew(has_more)
        self.changes.note()

    def _take_keys(self) -> bool:
        """Hold the current epoch's key; return whether a key was new. Blocking.

        A box that does not open to what the chain commits to changes no key: `key_problem` says who gave it, and
        nothing is written until another rekey.
        """
        epoch = self.membership.epoch
        if self.keys.current == epoch or not self.membership.may_read(self.device.device):
            self.key_problem = None
            return False
        is_new = epoch not in self.keys.epochs
        try:
            if is_new:
                self.keys = merged(
                    self.keys, keys_from_boxes(self.membership, self.device.device, self.device.box_secret)
                )
            else:  # its own rekey lost against another's change: the key before it is current again
                self.keys = FolderKeys(self.folder, self.keys.secret, self.keys.epochs, epoch)
        except (AccessError, IntegrityError, MalformedMessage) as error:
            author = next((e.author for e in reversed(self.membership_chain) if _gives_key(e.change)), DeviceId(b""))
            error.device, error.folder = short(author), short(self.folder)
            log.warning("the key of the folder cannot be used: %s", error)
            self.key_problem = error
            return False
        self.key_problem = None
        write_kept(self._keys_path, self.device, self.keys)
        return is_new

    def _write_membership(self, start: int) -> None:
        with self.database.transaction():
            self.versions.account(self.keepers)
            self.log_rows.truncate_membership(start)
            for at in range(start, len(self.membership_chain)):
                entry = self.membership_chain[at]
                self.log_rows.append_membership(at, entry.id, entry.data)


def _gives_key(change: Change) -> bool:
    return isinstance(change, Rekey) or (isinstance(change, Remove) and change.rekey is not None)
