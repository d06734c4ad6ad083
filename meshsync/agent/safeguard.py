"""The brake of one folder: what it weighed, what it holds, what was released; all of it outlives a restart.

Invariant: what `sync.safety` decides is carried out before anything is published or applied, and a hold ends only by
its user's decision or because nothing of it is left. Ages are measured by the running process: after a restart what
is remembered counts as new, so no clock that is set wrong opens the brake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from meshsync.codec.canonical import decode, encode
from meshsync.ids import ChainId, DeviceId, NodeId
from meshsync.index.database import Database
from meshsync.index.meta import Meta
from meshsync.index.safeguard_rows import ChangeRow, HoldRow, SafeguardRows
from meshsync.limits import BASELINE_BYTES_MAX, HELD_ID_BYTES, SAFETY_BURST_S, SAFETY_WINDOW_S
from meshsync.runtime import Runtime
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen, Plan, Scope
from meshsync.sync.safety import Before, Cause, Change, Held, Side, Verdict, Why, suspects, weigh
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View

log = logging.getLogger(__name__)

BASELINE_KEY = "safeguard baseline"
NOTHING: Mapping[Cause, Collection[NodeId]] = {}


@dataclass(slots=True)
class Hold:
    """One thing that waits for the user. `held` is None after a restart until the folder was planned for."""

    id: str
    cause: Cause
    why: Why
    since_ns: int
    count: int
    total: int
    held: Held | None = None

    @property
    def nodes(self) -> frozenset[NodeId]:
        """What the decision is about."""
        return frozenset() if self.held is None else self.held.nodes

    @property
    def frozen(self) -> Frozen:
        """What plans leave out."""
        return NOTHING_FROZEN if self.held is None else self.held.frozen


@dataclass(slots=True)
class _Unsaved:
    put: list[ChangeRow] = field(default_factory=list)
    gone: list[ChangeRow] = field(default_factory=list)


class Safeguard:
    """Belongs to one folder loop, which calls it within its rounds only; what others read may be read at any time."""

    def __init__(self, runtime: Runtime, database: Database, own: DeviceId) -> None:
        """Load what is remembered. Blocking."""
        self.holds: dict[Cause, Hold] = {}
        self.behind = False
        self._allowed = False
        self._runtime = runtime
        self._database = database
        self._own = own
        self._rows = SafeguardRows(database)
        self._meta = Meta(database)
        self._recent: dict[Cause, dict[NodeId, float]] = {}  # → when it counted last, monotonic seconds
        self._released: dict[Cause, set[NodeId]] = {}
        self._unsaved = _Unsaved()
        self._load()

    def _load(self) -> None:
        now = self._runtime.monotonic()
        for row in self._rows.changes():
            cause = Cause(Side(row.side), Change(row.change), row.device)
            if row.released:
                self._released.setdefault(cause, set()).add(row.node)
            else:
                self._recent.setdefault(cause, {})[row.node] = now
        for hold in self._rows.holds():
            cause = Cause(Side(hold.side), Change(hold.change), hold.device)
            self.holds[cause] = Hold(hold.id, cause, Why[hold.why], hold.since_ns, hold.count, hold.total)
        self._baseline = unpack_vector(self._meta.get(BASELINE_KEY) or b"")

    def set_baseline(self, vector: dict[ChainId, int]) -> None:
        """What was known when this device joined is not weighed: a filled folder comes up to date at once. Blocking."""
        self._baseline = dict(vector)
        self._meta.set(BASELINE_KEY, pack_vector(vector))

    # --- planning -----------------------------------------------------------------------------------------------

    def widened(self, scope: Scope, synced: SyncedTree) -> Scope:
        """Return `scope` with everything that is held, so that each plan sees the whole of it."""
        if not self.holds:
            return scope
        paths, nodes = set(scope.paths), set(scope.nodes)
        for hold in self.holds.values():
            paths |= hold.frozen.paths
            nodes |= hold.frozen.nodes
            # A directory above may have moved meanwhile.
            paths.update(path for node in hold.frozen.unseen if (path := synced.path_of(node)) is not None)
        return Scope(frozenset(paths), frozenset(nodes))

    async def planned(
        self, reconciled: Callable[[Frozen], Plan], synced: SyncedTree, local: LocalTree, view: View, *, full: bool
    ) -> Plan:
        """Return the plan that leaves out what must wait. New holds are in the index when it returns.

        `reconciled` makes the plan that leaves out what it is given, of the whole folder if `full`.
        """
        self._expire()
        verdict, frozen = Verdict(), NOTHING_FROZEN
        held_before = {cause: hold.why for cause, hold in self.holds.items()}
        before = Before(self._recent, self._burst(), self._released, held_before)
        while True:
            plan = reconciled(frozen)
            suspected = suspects(plan, synced, view, self._own, self._baseline)
            found = weigh(suspected, synced, local, view, before)
            verdict.passed = found.passed
            more = frozen
            for cause, held in found.held.items():
                verdict.held[cause] = verdict.held[cause] | held if cause in verdict.held else held
                more |= held.frozen
                before = replace(before, held={**before.held, cause: held.why})
            if not found.held:
                break
            assert more != frozen, "what is held is planned all the same"
            frozen = more
        await self._keep(verdict, plan.again)
        if full and not plan.again and not self._allowed:  # what was allowed after the last look is in no plan yet
            self._forget_released({cause: suspect.nodes for cause, suspect in suspected.items()})
        self._allowed = False
        self._count(verdict)
        self.behind = self._is_behind(synced, view)
        return plan

    async def _keep(self, verdict: Verdict, is_partial: bool) -> None:
        for cause, held in verdict.held.items():
            hold = self.holds.get(cause)
            if hold is None:
                hold = Hold(self._fresh_id(), cause, held.why, self._runtime.wall_time_ns(), 0, 0)
                log.warning("hold %s: %s, %d of %d", hold.id, held.why.value, len(held.files), held.total)
            if (hold.count, hold.total) != (len(held.files), held.total):
                hold.count, hold.total = len(held.files), held.total
                await self._runtime.in_thread(self._rows.put_hold, _hold_row(hold))
            hold.held = held
            self.holds[cause] = hold
        if not is_partial:  # what waits for something else of the plan may not be in it
            for cause in [cause for cause in self.holds if cause not in verdict.held]:
                log.info("hold %s ended: nothing of it is left", self.holds[cause].id)
                await self._end(self.holds[cause])

    async def _end(self, hold: Hold) -> None:
        await self._runtime.in_thread(self._rows.end_hold, hold.id)
        del self.holds[hold.cause]

    def _fresh_id(self) -> str:
        taken = {hold.id for hold in self.holds.values()}
        while True:
            made = self._runtime.random_bytes(HELD_ID_BYTES).hex()
            if made not in taken:
                return made

    def _is_behind(self, synced: SyncedTree, view: View) -> bool:
        """Tell whether others did something that a hold keeps from this disk."""
        for hold in self.holds.values():
            if hold.cause.side is Side.APPLY:
                return True
            for node in hold.frozen.unseen:
                face, row = view.face(node), synced.rows.get(node)
                if row is not None and (face is None or face.versions != row.versions):
                    return True
        return False

    # --- what counts --------------------------------------------------------------------------------------------

    def _count(self, verdict: Verdict) -> None:
        now = self._runtime.monotonic()
        for cause, nodes in verdict.passed.items():
            recent = self._recent.setdefault(cause, {})
            self._unsaved.put += [_change_row(cause, node, released=False) for node in nodes if node not in recent]
            recent.update(dict.fromkeys(nodes, now))

    def _burst(self) -> dict[Cause, set[NodeId]]:
        since = self._runtime.monotonic() - SAFETY_BURST_S
        return {
            cause: {node for node, when in recent.items() if when >= since} for cause, recent in self._recent.items()
        }

    def _expire(self) -> None:
        oldest = self._runtime.monotonic() - SAFETY_WINDOW_S
        for cause, recent in list(self._recent.items()):
            old = [node for node, when in recent.items() if when < oldest]
            for node in old:
                del recent[node]
            self._unsaved.gone += [_change_row(cause, node, released=False) for node in old]
            if not recent:
                del self._recent[cause]

    def done(self, side: Side, nodes: Iterable[NodeId]) -> None:
        """What was released of `nodes` on `side` has been carried out: from now on it counts like anything else."""
        done = set(nodes)
        for cause, released in self._released.items():
            if cause.side is side and (over := released & done):
                released.difference_update(over)
                self._unsaved.gone += [_change_row(cause, node, released=True) for node in over]

    def _forget_released(self, left: dict[Cause, set[NodeId]]) -> None:
        """What was released and is not to be done any more was undone by somebody."""
        for cause, released in self._released.items():
            over = released - left.get(cause, set())
            released.difference_update(over)
            self._unsaved.gone += [_change_row(cause, node, released=True) for node in over]

    def save(self) -> None:
        """Write what counts since the last call. Blocking; call it in the transaction that makes it true."""
        if self._unsaved.put or self._unsaved.gone:
            with self._database.transaction():
                self._rows.forget_changes(self._unsaved.gone)
                self._rows.put_changes(self._unsaved.put)

    def saved(self) -> None:
        """The transaction in which `save` was called is on disk."""
        self._unsaved = _Unsaved()

    async def allow(self, nodes: Collection[NodeId]) -> None:
        """What is done next to `nodes` on this disk, its user asked for: others are told, once, without a hold."""
        mine = {Cause(Side.PUBLISH, change, self._own): nodes for change in Change}
        await self._runtime.in_thread(self._write_released, mine)
        for cause in mine:
            self._released.setdefault(cause, set()).update(nodes)
        self._allowed = True

    def _write_released(self, released: Mapping[Cause, Collection[NodeId]]) -> None:
        with self._database.transaction():
            for cause, nodes in released.items():
                self._rows.put_changes(_change_row(cause, node, released=True) for node in nodes)

    # --- decisions ----------------------------------------------------------------------------------------------

    def passed(self, hold: Hold) -> int:
        """Return how many files of the same cause were taken away before the brake was on."""
        return len(self._recent.get(hold.cause, ()))

    def find(self, hold: str) -> Hold | None:
        """Return the hold with this id."""
        return next((each for each in self.holds.values() if each.id == hold), None)

    async def release(self, hold: Hold) -> None:
        """Let exactly what is held pass, once. Whatever the same device does afterwards is weighed anew."""
        await self._conclude(hold, {hold.cause: hold.nodes}, lambda: None)

    async def reject(
        self,
        hold: Hold,
        restore: Callable[[], None] = lambda: None,
        restoring: Mapping[Cause, Collection[NodeId]] = NOTHING,
    ) -> None:
        """End the hold; `restore` writes, in the same transaction, what brings the files back.

        `restoring` is what is then to be done on this disk: it is not weighed.
        """
        await self._conclude(hold, restoring, restore)

    async def _conclude(
        self, hold: Hold, released: Mapping[Cause, Collection[NodeId]], restore: Callable[[], None]
    ) -> None:
        await self._runtime.in_thread(self._decide, hold, released, restore)
        for cause, nodes in released.items():
            self._released.setdefault(cause, set()).update(nodes)
        self._recent.pop(hold.cause, None)
        self._unsaved.put = [row for row in self._unsaved.put if _cause(row) != hold.cause]
        del self.holds[hold.cause]

    def _decide(self, hold: Hold, released: Mapping[Cause, Collection[NodeId]], restore: Callable[[], None]) -> None:
        with self._database.transaction():
            restore()
            self._rows.end_hold(hold.id)
            counted = [_change_row(hold.cause, node, released=False) for node in self._recent.get(hold.cause, ())]
            self._rows.forget_changes(counted)
            self._write_released(released)


def pack_vector(vector: dict[ChainId, int]) -> bytes:
    """Return the bytes of a version vector."""
    return encode(tuple((bytes(chain), seq) for chain, seq in sorted(vector.items())))


def unpack_vector(data: bytes) -> dict[ChainId, int]:
    """Return the vector that `pack_vector` gave; empty for no bytes."""
    if not data:
        return {}
    return {ChainId(chain): seq for chain, seq in decode(tuple[tuple[bytes, int], ...], data, BASELINE_BYTES_MAX)}


def _change_row(cause: Cause, node: NodeId, *, released: bool) -> ChangeRow:
    return ChangeRow(cause.side.value, cause.change.value, cause.device, node, released)


def _cause(row: ChangeRow) -> Cause:
    return Cause(Side(row.side), Change(row.change), row.device)


def _hold_row(hold: Hold) -> HoldRow:
    side, change, device = hold.cause
    return HoldRow(hold.id, side.value, change.value, device, hold.why.name, hold.since_ns, hold.count, hold.total)
