"""One folder on this device: its replica, its trees, its place on disk, and everything that works on them.

Invariant: once made, a folder's in-memory state equals its index; `close` leaves nothing running. The parts know each
other only through what is passed here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from meshsync.agent.applying import ActionRunner, Applied
from meshsync.agent.chunk_server import ChunkServer
from meshsync.agent.collecting import Collecting
from meshsync.agent.counters import Counters
from meshsync.agent.durability import Durability
from meshsync.agent.faults import Faults
from meshsync.agent.fetch_pool import FetchPool
from meshsync.agent.fetcher import Fetcher, Need, Sealed
from meshsync.agent.folder_home import FolderHome
from meshsync.agent.folder_loop import FolderLoop
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.folder_threads import FolderThreads
from meshsync.agent.founding import NAME_KEY, ROOT_KEY
from meshsync.agent.freshness import Freshness
from meshsync.agent.handout import Handout
from meshsync.agent.handout_note import read_note, write_note
from meshsync.agent.history import unpack_content
from meshsync.agent.kept_keys import read_kept
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.machine import SYSTEM, Machine, Watching
from meshsync.agent.members_keys import renewed
from meshsync.agent.observer import Observer
from meshsync.agent.opening import open_answer
from meshsync.agent.partial_rows import PartialRows
from meshsync.agent.placing import Placer
from meshsync.agent.relay_reader import RelayReader
from meshsync.agent.relay_sampler import RelaySampler
from meshsync.agent.relay_watch import RelayWatch
from meshsync.agent.replica import Replica
from meshsync.agent.resolver import Resolver
from meshsync.agent.retired import Retired
from meshsync.agent.safeguard import Safeguard
from meshsync.agent.sought import Sought, Sources
from meshsync.agent.spares import path_of_spare
from meshsync.agent.staged import Staged
from meshsync.agent.uploader import Uploader
from meshsync.chunking.cut import CutParams
from meshsync.content.backup import discovery_key
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MeshsyncError, ResourceError, SourceUnavailable
from meshsync.folder.apply import Applier
from meshsync.folder.names import ANY_NAME, CONTROL_NAME, NameRules
from meshsync.folder.probe import name_rules
from meshsync.folder.reader import read_ranges
from meshsync.folder.root import Root, open_root
from meshsync.folder.staging import Staging
from meshsync.folder.types import RootMissing, Stat
from meshsync.folder.watch import Dirty
from meshsync.ids import BlobId, ChunkId, DeviceId, Dot, FolderId, NodeId, RecordId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.log_rows import LogRows
from meshsync.index.meta import Meta
from meshsync.index.relay_rows import RelayRows
from meshsync.limits import EARLIER_EPOCHS_MAX, FOLDER_CLOSE_S, RESCAN_LIMITED_S, RESCAN_S, UPLOAD_FETCH_S
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.membership_history import Told, tell
from meshsync.metalog.record_log import GENESIS_HEAD
from meshsync.roles import Role
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import Intent, LocalRow, SyncedRow
from meshsync.sync.disk_rows import Path as TreePath
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.settle import finished_intents, lost_parked, made_parked
from meshsync.sync.synced_tree import SyncedTree
from meshsync.transport.base import Priority
from meshsync.wire.peer_messages import Heads

log = logging.getLogger(__name__)

T = TypeVar("T")

JOINING_KEY = "joining"  # the device that invited, until one member's whole log is here
PAUSED_KEY = "paused"  # there while its user wants nothing exchanged
ADDRESSES_KEY = "addresses"  # where the inviter was, one on each line


class Folder:
    """Belongs to one loop."""

    def __init__(
        self,
        runtime: Runtime,
        home: FolderHome,
        device: DeviceKeys,
        counters: Counters,
        faults: Faults,
        on_change: Callable[[], None],
        machine: Machine = SYSTEM,
    ) -> None:
        """Open the index and load everything. Blocking. Raises ConfigError, IndexCorrupt, FormatUnsupported."""
        self.home = home
        self.problems: dict[DeviceId, str] = {}
        self.damaged: dict[str, set[str]] = {}
        self.peers: dict[DeviceId, Heads] = {}
        self._machine_runtime, runtime = runtime, FolderThreads(runtime)
        self._runtime = runtime
        self._counters = counters
        self._faults = faults
        self._on_change = on_change
        self._machine = machine
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: Watching | None = None
        self._readers: dict[DeviceId, RelayReader] = {}
        self._uploaders: dict[DeviceId, Uploader] = {}
        self.samplers: dict[DeviceId, RelaySampler] = {}
        self.database = machine.open_index(home.index)
        self.meta = Meta(self.database)
        self.is_paused = self.meta.get(PAUSED_KEY) is not None
        self.handout = read_note(self.meta)  # set if the folder is one shared file, which no user works in
        self._told: tuple[RecordId, Told] | None = None  # of the membership head
        self.leaving = False  # this device tells the others that it leaves
        self.relay_rows = RelayRows(self.database)
        membership = [open_membership(data) for data in LogRows(self.database).membership()]
        keys = read_kept(home.keys, device, membership[0].folder)
        self.replica = Replica(runtime, self.database, device, membership, keys, home.keys)
        self.replica.renew = lambda change: renewed(self.replica, runtime, change)
        self.replica.load(machine.index_mark(home.index))
        machine.index_opened(home.index)
        self.root_path = Path(os.fsdecode(self.meta.get(ROOT_KEY) or b""))
        self.name = (self.meta.get(NAME_KEY) or b"").decode()
        evidence = home.path / "evidence"
        self.watch = RelayWatch(runtime, self.id, self.database, evidence, lambda: self.replica.keepers, self._changed)
        self.replica.relay_heads, self.replica.relay_seen = self.watch.heads, self.watch.seen
        self.replica.heard = lambda entries: self.watch.entries(entries, device.device)
        if self.replica.keepers:
            self.watch.entries(self.replica.newest_entries(), device.device)
        self._inviter = self.meta.get(JOINING_KEY)
        self.joining = self._inviter is not None
        self.freshness = Freshness(self.database, self.replica, lambda: self.told)
        self._joins_again: asyncio.Task[None] | None = None  # while the index refuses to take that it joined
        self.refusals: dict[DeviceId, MeshsyncError] = {}  # why a relay takes nothing more now
        self.linked_relays: set[DeviceId] = set()
        self._store = FolderStore(self.database)
        self.guard = Safeguard(runtime, self.database, device.device)
        self.chunk_rows: ChunkRows = self._store.chunks
        self.synced = SyncedTree(self._store.synced())
        self.durability = Durability(runtime, self.replica, self.synced.rows, self.peers, self.watch.convicted)
        self.collecting = Collecting(runtime, self.replica, self.relay_rows, self.chunk_rows)
        self._partial = PartialRows(self.database)
        self._local = LocalChunks(self.chunk_rows, self._read_ranges, self._place_of, self.keys, self._stale)
        self.fetcher = Fetcher(runtime, self._open_answer, self._fetched, self._note_damaged)
        sources = Sources(self.fetcher.source_names, self._is_at_a_relay)
        self.sought = Sought(runtime, self.meta, self.synced, lambda: self.replica.view, sources)
        self.chunk_server = ChunkServer(runtime, self._local, self.keys, self._served)
        self._root: Root | None = None
        self.loop: FolderLoop | None = None
        self.pool: FetchPool | None = None
        self._staging: Staging | None = None
        self.resolver: Resolver | None = None
        self.placer: Placer | None = None

    @property
    def id(self) -> FolderId:
        """The folder's id."""
        return self.replica.folder

    @property
    def cut_params(self) -> CutParams:
        """How the folder's files are cut into chunks."""
        genesis = self.replica.membership.genesis
        return CutParams(genesis.chunk_min, genesis.chunk_mean, genesis.chunk_max)

    @property
    def inviter_addresses(self) -> tuple[str, ...]:
        """Where the device that invited this one was reached."""
        return tuple((self.meta.get(ADDRESSES_KEY) or b"").decode().split())

    @property
    def local(self) -> LocalChunks:
        """Chunks on this device."""
        return self._local

    def keys(self) -> FolderKeys:
        """Return the folder's keys."""
        return self.replica.keys

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the root, recover, watch, begin to work. A root that is missing is retried until it is there."""
        task = self._runtime.spawn(self._run(), f"folder {self.name}")
        task.add_done_callback(self._ended)
        self._tasks += [task, self._runtime.spawn(self.watch.run(), f"watch relays of {self.name}")]

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A folder that stops working by a mistake of ours says so; nothing on disk has changed since."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.problems[DeviceId(b"")] = f"the agent failed inside this folder ({type(error).__name__}); restart it"
            if self.loop is not None:
                self.loop.phase, self.loop.problem = "error", self.problems[DeviceId(b"")]
            self._on_change()

    async def _run(self) -> None:
        while True:
            root = await self._runtime.in_thread(
                open_root, os.fsencode(self.root_path), self.id, self._machine.syscalls
            )
            if isinstance(root, Root):
                break
            self.problems[DeviceId(b"")] = root.state.value
            self._changed()
            await self._runtime.sleep(RESCAN_LIMITED_S / 6)
        self.problems.pop(DeviceId(b""), None)
        self._root = root
        self._staging = staging = Staging(root, self._runtime)
        rescued = await self._once_possible(lambda: staging.recover(self._partial.names()))
        params = self.cut_params
        local = LocalTree(self._known_rows())
        observer = Observer(root, self.keys(), params, local, self._runtime.wall_time_ns)
        applier = Applier(root, staging, await self._once_possible(lambda: _rules_of(staging)))
        for edit in rescued:
            # What its user wrote while it was being replaced. It is published as a new file.
            name = b"recovered %d %d" % (edit.stat.inode, self._runtime.wall_time_ns())
            await self._runtime.in_thread(applier.place_rescued, edit.name, (name,))
        runner = ActionRunner(applier, self.keys, self._store.intend, self._record)
        self.pool = FetchPool(
            self._runtime,
            self.fetcher,
            self._local,
            self._store,
            self._staging_area,
            self._partial,
            self.keys,
            params.min,
            self._wake,
        )
        self.loop = FolderLoop(
            self._runtime,
            self.replica,
            self._store,
            self.synced,
            observer,
            runner,
            self.pool,
            self.guard,
            self.sought,
            self._changed,
            lambda: self.joining,
        )
        await self._finish_intents(observer, applier)
        self.resolver = Resolver(self._runtime, root, applier, observer.local, self.synced, self.keys, params)
        self.placer = Placer(root, applier, observer.local, self.synced, self.resolver)
        self._watcher = self._machine.watch(os.fsencode(self.root_path), asyncio.get_running_loop(), self._dirty)
        await self._runtime.in_thread(self._watcher.start)
        self._tasks.append(self._runtime.spawn(self._follow_replica(), "wake on log"))
        self._tasks.append(self._runtime.spawn(self._rescan(), "rescan"))
        await self.loop.run()

    async def set_paused(self, paused: bool) -> None:
        """Exchange nothing from now on, or no longer; kept over a restart."""

        def write() -> None:
            with self.database.transaction():
                if paused:
                    self.meta.set(PAUSED_KEY, b"1")
                else:
                    self.meta.delete(PAUSED_KEY)

        await self._runtime.in_thread(write)
        self.is_paused = paused

    async def note_handout(self, handout: Handout) -> None:
        """Note of the one shared file that this folder is; kept over a restart. Raises ResourceError."""
        await self._runtime.in_thread(write_note, self.database, self.meta, handout)
        self.handout = handout

    def _staging_area(self) -> Staging:
        assert self._staging is not None
        return self._staging

    def _known_rows(self) -> list[LocalRow]:
        """Rows of what lay on disk at the end of the last run, so that unchanged files are not read again."""
        rows = []
        for row in self.synced.rows.values():
            path = self.synced.path_of(row.node)
            if row.stat is not None and row.order == 0 and path is not None:
                rows.append(LocalRow(path, row.content, row.executable, row.stat))
        return rows

    async def _once_possible(self, step: Callable[[], T]) -> T:
        """Do a step of the start in a thread; while the disk refuses it say so, and try again."""
        while True:
            try:
                done = await self._runtime.in_thread(step)
            except (ResourceError, OSError) as error:
                self.problems[DeviceId(b"")] = error.what if isinstance(error, ResourceError) else str(error.strerror)
                self._changed()
                await self._runtime.sleep(RESCAN_LIMITED_S / 6)
            else:
                self.problems.pop(DeviceId(b""), None)
                return done

    async def _finish_intents(self, observer: Observer, applier: Applier) -> None:
        """Take what a crash kept apply from recording for applied, before anything is planned."""
        parked = await self._once_possible(applier.parked)
        intents = await self._once_possible(self._store.intents)
        paths = [intent.path for intent in intents if intent.path is not None]
        if paths:
            await self._runtime.in_thread(observer.look, paths)
        rows = finished_intents(intents, observer.local, parked)
        for row in rows:
            self.synced.put(row)
        lost = lost_parked(self.synced, parked)
        for node in lost:
            self.synced.remove(node)
        made = made_parked(intents)
        for number in sorted(parked.keys() - self.synced.parked().keys()):
            if number in made and await self._runtime.in_thread(_discard, applier, number, made[number]):
                continue
            # Nobody's by the rows: what it is, its user can tell. It is published as a new file.
            name = b"recovered %d %d" % (number, self._runtime.wall_time_ns())
            await self._runtime.in_thread(applier.unpark, number, (name,))
        read = observer.hashed
        hashed = {row.node: read[path] for row in rows if (path := self.synced.path_of(row.node)) in read}

        def record() -> None:
            with self.database.transaction():
                self._store.keep_rows(rows, lost, hashed)
                self._store.forget_intents([row.node for intent in intents for row in intent.rows])

        await self._once_possible(record)

    async def _follow_replica(self) -> None:
        count = 0
        while True:
            count = await self.replica.changes.after(count)
            self._check_joined()
            self._wake()

    async def _rescan(self) -> None:
        while self._watcher is not None and self.loop is not None:
            await self._runtime.sleep(RESCAN_LIMITED_S if self._watcher.limited else RESCAN_S)
            self.loop.look_at(None)

    async def close(self) -> None:
        """Stop everything and close the index. A thread that does not end in FOLDER_CLOSE_S keeps both index and root
        open: what it still writes goes where it was to go, and not to another file that took a closed descriptor.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.loop is not None:
            self.loop.close()
        await self.fetcher.close()
        await self.replica.close()
        self._runtime.close()
        if self._watcher is not None:
            await self._machine_runtime.in_thread(self._watcher.stop)
        if not await self._runtime.ended(FOLDER_CLOSE_S):
            log.error("folder %s: a disk does not answer, its files stay open until the agent ends", self.name)
            return
        if self._root is not None:
            self._root.close()
        self.database.close()
        self._machine.index_closed(self.home.index)

    def _wake(self) -> None:
        if self.loop is not None:
            self.loop.wake.note()

    def _dirty(self, dirty: Dirty) -> None:
        if self.loop is not None:
            self.loop.look_at(None if dirty.rescan else list(dirty.paths))

    # --- chunks -------------------------------------------------------------------------------------------

    def _read_ranges(self, path: TreePath, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
        return [None] * len(ranges) if self._root is None else read_ranges(self._root, path, ranges)

    def _place_of(self, node: NodeId) -> TreePath | None:
        return path_of_spare(node) or self.synced.path_of(node)

    def _stale(self, path: TreePath) -> None:
        if self.loop is not None and path[0] != CONTROL_NAME:
            asyncio_safe = self.loop.look_at
            self._call_soon(lambda: asyncio_safe([path]))

    def _call_soon(self, action: Callable[[], None]) -> None:
        """Run `action` on the loop; called from threads."""
        loop = self._event_loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(action)

    @property
    def _event_loop(self) -> asyncio.AbstractEventLoop | None:
        return self._tasks[0].get_loop() if self._tasks else None

    def _open_answer(self, answer: Sealed) -> bytes:
        return open_answer(self.keys, self._faults.damage(answer))

    def _fetched(self, need: Need, wire_bytes: int) -> None:
        self._counters.chunks_fetched += 1
        self._counters.content_bytes_fetched += need.size if need.kind is BlobKind.CHUNK else wire_bytes
        if need.kind is BlobKind.CHUNK and wire_bytes < need.size:
            self._counters.delta_bytes += need.size - wire_bytes
        self.damaged.pop(need.path, None)

    def _served(self, size: int) -> None:
        self._counters.content_bytes_served += size

    def _note_damaged(self, need: Need, source: str) -> None:
        self._counters.chunks_damaged += 1
        self.damaged.setdefault(need.path, set()).add(source)
        self._changed()

    def _record(self, applied: Applied, staged: dict[NodeId, Staged]) -> None:
        """Write what was applied. In a thread."""
        with self.database.transaction():
            self._store.keep_rows(applied.rows, applied.gone, staged)
            self.guard.save()
            self._store.forget_intents([*(row.node for row in applied.rows), *applied.intended])

    # --- peers and relays ---------------------------------------------------------------------------------

    @property
    def told(self) -> Told:
        """What the membership chain tells beyond the present members."""
        head = self.replica.membership.head
        if self._told is None or self._told[0] != head:
            self._told = (head, tell(self.replica.membership_chain))
        return self._told[1]

    @property
    def parted(self) -> bool:
        """Whether this device is no member any more."""
        return not self.replica.membership.is_member(self.replica.device.device)

    @property
    def paused(self) -> bool:
        """Whether nothing is exchanged about the folder: its user wants it so, or this device is no member."""
        return self.is_paused or (self.parted and not self.leaving)

    def knows(self, device: DeviceId) -> bool:
        """Whether the folder is shared with `device`."""
        shared = self.leaving or not self.parted
        return shared and self.replica.membership.is_member(device)

    def is_backup(self, device: DeviceId) -> bool:
        """Whether `device` keeps the folder without reading it, or did until it was removed: then it is told so."""
        role = self.replica.membership.role(device)
        gone = self.told.departures.get(device)
        return role is Role.BACKUP or (role is None and gone is not None and gone.role is Role.BACKUP)

    def backup_keys(self) -> list[bytes]:
        """Return by what backups of the folder are recognised, also those that were removed."""
        gone = [device for device, one in self.told.departures.items() if one.role is Role.BACKUP]
        return [discovery_key(self.id, device) for device in (*self.replica.membership.backups(), *gone)]

    def earlier_keys(self) -> list[bytes]:
        """Return the discovery keys of the last epochs before the present one."""
        keys = self.replica.keys
        ended = [epoch for epoch in self.told.epochs if epoch != keys.current]
        return [keys.discovery_key(epoch) for epoch in ended[-EARLIER_EPOCHS_MAX:] if epoch in keys.epochs]

    def farewell(self, device: DeviceId) -> Heads | None:
        """Return what a device that was a member and is none is still told: the entry by which it ended, no more."""
        if self.knows(device):
            return None
        gone = self.told.departures.get(device)
        if gone is None:
            return None
        return Heads(gone.seq + 1, self.replica.membership_chain[gone.seq].id, (), ())

    def peer_heads(self, device: DeviceId, heads: Heads) -> None:
        """Hear what a member holds; a joiner that lacks nothing of it may begin."""
        self.peers[device] = heads
        self.watch.told(heads.relay_heads)
        self.replica.confirm_own(heads.chains)
        self._check_joined()
        self._changed()

    def _check_joined(self) -> None:
        self._check_freshness()
        if not self.joining:
            return
        for device, heads in self.peers.items():
            complete = self.replica.has_membership(RecordId(heads.membership_head))
            # Another newcomer may hold nothing yet; the inviter has looked at its folder: it is empty.
            tells = bool(heads.chains) or device == self._inviter
            if complete and tells and not self.replica.lacks(heads.chains):
                self._joined()
                return

    def _check_freshness(self) -> None:
        read = sum(reader.caught_up and reader.cursor.head != GENESIS_HEAD for reader in self._readers.values())
        self.freshness.hear(self.peers.items(), read)

    def _joined(self) -> None:
        try:
            with self.database.transaction():
                self.guard.set_baseline(self.replica.view.vector)
                self.meta.delete(JOINING_KEY)
        except ResourceError as error:
            self.problems[DeviceId(b"")] = f"{error.what}. {error.next_step}"
            if self._joins_again is None:
                self._joins_again = self._runtime.spawn(self._join_again(), "join again")
                self._tasks.append(self._joins_again)
            return
        self.joining = False
        self._wake()

    async def _join_again(self) -> None:
        """What made this device joined stays true: record it as soon as the index takes it."""
        while self.joining:
            await self._runtime.sleep(RESCAN_LIMITED_S / 6)
            if self.joining:
                self._joined()
        self.problems.pop(DeviceId(b""), None)
        self._changed()

    def reader(self, relay: DeviceId) -> RelayReader:
        """Return the one reader of that relay's log."""
        if relay not in self._readers:
            self._readers[relay] = RelayReader(
                self._runtime,
                relay,
                self.replica,
                self.relay_rows,
                self.chunk_rows,
                self,
                self.watch,
                self.retired(relay),
            )
        return self._readers[relay]

    def retired(self, relay: DeviceId) -> Retired:
        """Return who hears what is kept no longer at that relay."""
        return Retired(
            self._runtime,
            relay,
            self.replica,
            self.relay_rows,
            self.chunk_rows,
            self.sampler(relay).suspect,
        )

    def sampler(self, relay: DeviceId) -> RelaySampler:
        """Return who looks whether that relay still has what it acknowledged."""
        if relay not in self.samplers:
            self.samplers[relay] = RelaySampler(
                self._runtime, relay, self.replica, self.relay_rows, self.chunk_rows, self._changed
            )
        return self.samplers[relay]

    def uploader(self, relay: DeviceId) -> Uploader:
        """Return the one uploader to that relay."""
        if relay not in self._uploaders:
            reader = self.reader(relay)
            self._uploaders[relay] = Uploader(
                self._runtime,
                relay,
                self.replica,
                self.relay_rows,
                self.chunk_rows,
                self._local,
                lambda row: unpack_content(row.content),
                lambda receipt: self._take_receipt(relay, reader, receipt),
                lambda versions: self._kept_elsewhere(relay, versions),
                self._fetch_for_relay,
            )
        return self._uploaders[relay]

    def _take_receipt(self, relay: DeviceId, reader: RelayReader, receipt: bytes) -> None:
        reader.take_receipts((receipt,))
        self._call_soon(lambda: self.watch.hear_receipt(relay, receipt))
        self._changed()

    def _kept_elsewhere(self, relay: DeviceId, versions: list[Dot]) -> set[Dot]:
        holders = self.durability.holders(versions)
        return {name for name, relays in holders.items() if any(holder != relay for holder in relays)}

    def _is_at_a_relay(self, versions: Collection[Dot]) -> bool:
        return any(self.durability.holders(list(versions)).values())

    async def _fetch_for_relay(self, chunk: ChunkId, kind: BlobKind, size: int) -> bytes | None:
        """Fetch what one relay has for another that lacks it; None if nobody gives it now."""
        if len(self.linked_relays) < 2:
            return None
        future = self.fetcher.request(chunk, kind, size, Priority.BULK)
        try:
            async with asyncio.timeout(UPLOAD_FETCH_S):
                return await future
        except (TimeoutError, SourceUnavailable):
            return None

    def relay_problem(self, relay: DeviceId, what: str) -> None:
        """Tell the user why the relay does not serve the folder; empty when it does."""
        if what:
            self.problems[relay] = what
        else:
            self.problems.pop(relay, None)
        self._changed()

    def relay_refuses(self, relay: DeviceId, error: MeshsyncError | None) -> None:
        """Tell the user why the relay takes nothing more now, while the rest goes on; None when it does."""
        if error is not None:
            self.refusals[relay] = error
        elif self.refusals.pop(relay, None) is None:
            return
        self._changed()

    def relay_linked(self, relay: DeviceId, linked: bool) -> None:
        """Hear that a relay can be asked for chunks, or no longer."""
        if linked:
            self.linked_relays.add(relay)
        else:
            self.linked_relays.discard(relay)

    def content_stored(self) -> None:
        """More content can be had from a relay."""
        for name in self.fetcher.source_names():
            self.fetcher.news(name)

    def content_lost(self, relay: DeviceId, blobs: Sequence[BlobId]) -> None:
        """A relay says that it holds no more what it had acknowledged: members bring it again."""
        self.sampler(relay).lost(blobs)

    def versions_durable(self) -> None:
        """Something became durable, or the relay's log was read."""
        if any(reader.caught_up and reader.cursor.head != GENESIS_HEAD for reader in self._readers.values()):
            self.replica.confirm_own([] if self.replica.own is None else [self.replica.own])
            self._check_freshness()
            if self.joining:
                self._joined()
        self._changed()

    def peer_gone(self, device: DeviceId) -> None:
        """The link to a member ended, or it stopped sharing the folder."""
        self.peers.pop(device, None)
        self._changed()

    def _changed(self) -> None:
        if self.loop is not None and self.loop.has_applied and not self.joining:
            self._note_applied()
        self._on_change()

    def _note_applied(self) -> None:
        """Tell others that everything delivered here is on this device's disk."""
        heads: tuple[ChainHead, ...] = tuple(self.replica.chains.heads())
        if heads != self.replica.applied:
            self.replica.applied = heads
            self.replica.changes.note()

    def rows(self) -> list[SyncedRow]:
        """Return the synced rows of what lies on disk."""
        return list(self.synced.rows.values())


def _rules_of(staging: Staging) -> NameRules:
    try:
        return name_rules(staging)
    except ResourceError:  # nothing can be written there now: each change will say why
        return ANY_NAME


def _discard(applier: Applier, number: int, intent: Intent) -> bool:
    """Remove what apply made and a crash left out of the tree; it is made again."""
    (row,) = intent.rows
    stat = Stat(intent.inode, 0, row.content.size, row.mtime_ns, 0)
    return applier.discard_parked(number, row.kind, stat, row.content.target)


def check_present(folder: Folder) -> None:
    """Raise ConfigError if the folder's root is not there."""
    missing: RootMissing | None = folder.loop.root_missing if folder.loop is not None else None
    if folder.loop is None or missing is not None:
        raise ConfigError("the folder's directory is not there", folder=folder.name, path=str(folder.root_path))
