"""Sequences the work on one folder: look at the disk, plan, publish, fetch, apply; again whenever something changed.

Invariant: one round at a time; trees change only here; what was applied is recorded before anything else is planned,
however often the index refuses it. What a round could not do is in the next round's scope, so a crash, a full disk or
a missing source delays and never loses work. No decision is made here: `reconcile` plans.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from meshsync.agent.applying import ActionRunner, Applied
from meshsync.agent.changes import Changes
from meshsync.agent.decisions import Decisions
from meshsync.agent.fetch_pool import FetchPool
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.making_way import WayMaker
from meshsync.agent.observer import Hashed, Observation, Observer, display
from meshsync.agent.replica import Replica
from meshsync.agent.safeguard import Safeguard
from meshsync.agent.sought import Sought
from meshsync.agent.spares import Spares
from meshsync.agent.staged import Staged
from meshsync.agent.turns import Turns
from meshsync.agent.unfinished import Unfinished
from meshsync.agent.work import Group, path_text, taken_out
from meshsync.content.batch import UNNAMED_CHAIN
from meshsync.content.record import Content, Kind, Op
from meshsync.errors import MeshsyncError, ResourceError
from meshsync.folder.names import ParkedPath
from meshsync.folder.types import Reason, RootMissing
from meshsync.ids import ChainId, NodeId
from meshsync.limits import APPLY_BATCH_MAX, APPLY_THREADS, FOLDER_RACY_WINDOW_NS, RETRY_BLOCKED_S
from meshsync.metalog.entry import OpenedEntry
from meshsync.runtime import Runtime
from meshsync.sync.actions import Move, Remove, WriteFile, gone_by, nodes_of
from meshsync.sync.disk_rows import LocalRow, Path
from meshsync.sync.draft import Draft, EntryDraft, Publisher
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen, Plan, Scope, reconcile
from meshsync.sync.rejecting import giving_up
from meshsync.sync.safety import Side
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.unpublished import Unpublished, without_publishing
from meshsync.sync.view import View

log = logging.getLogger(__name__)

NOTHING_UNPUBLISHED = Unpublished(frozenset(), NOTHING_FROZEN)
PASSING = (Reason.IO, Reason.BUSY, Reason.VANISHED)
"""Why a path may not be observed for a while, with no event when that is over."""


@dataclass(slots=True)
class Pending:
    """What the next rounds have to do. `everything`: look at the whole folder; `paths`: look; `plan`: plan there.

    `more`: the last look left something.
    """

    everything: bool = True
    more: bool = False
    paths: set[Path] = field(default_factory=set)
    plan: set[Path] = field(default_factory=set)
    nodes: set[NodeId] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everything or self.more or bool(self.paths or self.plan or self.nodes)

    def add(self, other: Pending) -> None:
        """Take over what another one has to do as well."""
        self.everything |= other.everything
        self.more |= other.more
        self.paths |= other.paths
        self.plan |= other.plan
        self.nodes |= other.nodes


class FolderLoop:
    """Belongs to one loop. `on_change` is told whenever the state that users see may differ."""

    def __init__(
        self,
        runtime: Runtime,
        replica: Replica,
        store: FolderStore,
        synced: SyncedTree,
        observer: Observer,
        runner: ActionRunner,
        pool: FetchPool,
        guard: Safeguard,
        sought: Sought,
        on_change: Callable[[], None],
        joining: Callable[[], bool],
    ) -> None:
        self.wake = Changes()
        self.phase = "scanning"
        self.root_missing: RootMissing | None = None
        self.problem = ""
        self.rounds = 0
        self._runtime = runtime
        self._replica = replica
        self._store = store
        self._synced = synced
        self._observer = observer
        self._runner = runner
        self._pool = pool
        self.guard = guard
        self.sought = sought
        self.decisions = Decisions(
            runtime, guard, store, synced, observer, sought, lambda: replica.view, self._publish, self.wake.note
        )
        self.turns = Turns(self.wake.note)
        self._way = WayMaker(observer, store, synced)
        self._spares = Spares(runtime, observer, store, synced)
        self._unpublished = NOTHING_UNPUBLISHED  # of the last plan
        self._only_here: set[Path] = set()
        self._on_change = on_change
        self._joining = joining
        self._pending = Pending()
        self._unfinished = Unfinished(synced)
        self._blocked: dict[NodeId, tuple[Path, str]] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}  # one of each kind
        self._closed = False
        self._racy: set[Path] = set()  # to be looked at again when their timer ends
        self._passing: set[Path] = set()
        self._first_scan_done = False
        self._planned_view = 0
        self._planning = False  # a round has taken up something to plan for
        self._replan = False  # everything is to be planned, because a hold began or ended
        self._undone: set[NodeId] = set()
        self._planned_to_write = self._may_write
        self._moved: dict[Content, Hashed] = {}  # of the plan that is being recorded
        self._waiting: set[NodeId] = set()  # among others for what could not be observed
        self._unrecorded: tuple[list[Group], dict[NodeId, Staged], Applied] | None = None  # done on disk

    # --- what others see ------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is left to look at, publish, fetch or apply that is known of."""
        return self.settled and not self.guard.holds

    @property
    def settled(self) -> bool:
        """Whether nothing is left but what waits for the user's decision."""
        planning = self._planning or self._replan
        waiting = self._pending or self._replica.dirty or self._unfinished or self._undone or planning
        return self.phase == "in sync" and not waiting

    @property
    def has_applied(self) -> bool:
        """Whether everything that was delivered is on this disk."""
        return self.settled and not self.guard.behind

    @property
    def scanned(self) -> bool:
        """Whether the whole folder has been looked at since the start."""
        return self._first_scan_done

    async def published(self) -> None:
        """Return once what its user did so far was looked at and published. Raises why that cannot be."""
        for _ in range(2):  # a turn comes after a look, and before what that look saw is published
            await self.turns.take(_nothing)

    async def overrule(self, draft: Callable[[View], Draft]) -> None:
        """Publish, in a turn, what `draft` makes of the view then: what no file's change here would tell.

        Raises what a turn raises.
        """

        async def publish() -> None:
            made = draft(self._replica.view)
            await self._publish(made)
            self._replan |= len(made) > 0  # what was held may have come to nothing

        await self.turns.take(publish)

    def counts(self) -> tuple[int, int, int]:
        """Return how many paths are to be looked at, contents to be fetched, and actions to be applied."""
        fetch, apply = self._unfinished.counts()
        look = self._pending
        return len(look.paths) + look.everything + look.more, fetch, apply

    def blocked(self) -> dict[Path, str]:
        """Return the paths whose change waits for something here, and for what."""
        return dict(self._blocked.values())

    def only_here(self) -> set[Path]:
        """Return where this disk differs from the folder, because this device may not write."""
        return self._only_here

    def problem_at(self, path: Path) -> str | None:
        """Return why `path` is not observed, or None if it is."""
        for depth in range(len(path), 0, -1):
            problem = self._observer.problems.get(path[:depth])
            if problem is not None:
                return problem.reason.value
        return None

    def seen(self, path: Path) -> LocalRow | None:
        """Return what the last look saw at `path`."""
        return self._observer.local.at(path)

    def awaits(self, node: NodeId) -> bool:
        """Whether the content of `node` is still to come to this device."""
        return self._unfinished.awaits(node)

    def to_apply(self, node: NodeId) -> bool:
        """Whether something about `node` is still to be done on this disk."""
        return self._unfinished.has(node)

    def look_at(self, paths: Sequence[Path] | None) -> None:
        """Have these paths, or the whole folder, looked at again."""
        if paths is None:
            self._pending.everything = True
        else:
            self._pending.paths.update(paths)
        self.wake.note()

    # --- the loop -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                count = self.wake.count
                try:
                    busy = await self._round()
                    self.problem = ""
                except MeshsyncError as error:
                    log.warning("folder at %s: %s", self._observer.root.path, error)
                    self.phase, self.problem, busy = "error", str(error), False
                    self.decisions.refuse(error)
                    self.turns.refuse(error)
                    self._replan = True  # what this round had taken up is in no later scope
                    self._later("error", RETRY_BLOCKED_S, lambda: self.look_at(None))
                self._planning = False
                self._on_change()
                if not busy:
                    await self.wake.after(count)
        finally:
            self.close()
            await self._pool.close()

    def close(self) -> None:
        """Tell everybody who waits that nothing will be done; no timer is left. Again does nothing."""
        self.decisions.close()
        self.turns.close()
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()

    async def _round(self) -> bool:
        """Do one round; return whether another one is due at once."""
        self.rounds += 1
        if self._joining():
            # Until one member's whole log is here, what lies on this disk cannot be told from what others have.
            self.phase = "syncing"
            return False
        await self._record_applied()
        if self.decisions and self._first_scan_done:
            await self.decisions.carry_out()
            self._replan = True
        await self._review_sought()
        scope = await self._look()
        if scope is None:
            missing = ResourceError("the folder's directory is not there", next_step="meshsync status")
            self.decisions.refuse(missing)
            self.turns.refuse(missing)
            return False
        self._planning = bool(scope.paths or scope.nodes)
        await self._give_up_replaced()
        if self.turns and self._first_scan_done:
            await self.turns.carry_out()  # what it did is looked at in the next round, as any other act of the user
        if self._replica.shown_anew != self._planned_view:
            self._planned_view, self._first_scan_done = self._replica.shown_anew, False
        if self._may_write != self._planned_to_write:
            self._planned_to_write, self._replan = (
                self._may_write,
                True,
            )  # what stayed here may be told now, or no longer
        if scope.paths or scope.nodes or self._replan or not self._first_scan_done:
            full = self._replan or not self._first_scan_done
            scope = self._unfinished.widened(self.guard.widened(scope, self._synced), self._replica.view)
            plan = await self._plan(None if full else scope)
            if await self._make_way(plan) or await self._settle_and_publish(plan) or plan.again:
                self._pending.nodes |= scope.nodes | plan.busy
                self._pending.plan |= scope.paths
                return True
            self._first_scan_done = True
            if full:
                self._replan = False
            self._take_plan(plan, scope, full)
        moved = await self._apply_ready()
        await self._spares.review(self._replica.view)
        if await self._pool.clear():
            self._later("left over", RETRY_BLOCKED_S, self.wake.note)
        self.phase = "in sync" if not self._unfinished else "syncing"
        return moved or bool(self._pending or self._replan or self.decisions or self.turns)

    async def _plan(self, scope: Scope | None) -> Plan:
        """Plan for `scope`, everything if None, without what a safeguard holds."""
        local, view, before = self._observer.local, self._replica.view, set(self.guard.holds)

        def reconciled(frozen: Frozen) -> Plan:
            return reconcile(self._synced, local, view, scope, frozen | self.sought.frozen)

        def plan(frozen: Frozen) -> Plan:
            if self._may_write:
                self._unpublished = NOTHING_UNPUBLISHED
                return reconciled(frozen)
            made, self._unpublished = without_publishing(reconciled, frozen, self._synced)
            return made

        made = await self.guard.planned(plan, self._synced, local, view, full=scope is None)
        kept = () if scope is None or self._may_write else self._only_here
        self._only_here = {path for path in kept if not _is_in(path, scope)} | self._unpublished.paths
        if before - self.guard.holds.keys():
            self._replan = True  # what waited for the hold may go on
        return made

    async def _look(self) -> Scope | None:
        """Bring the local tree up to date; return what to plan for, None if the root cannot be believed."""
        pending, self._pending = self._pending, Pending(everything=False)
        paths: set[Path] = set(pending.plan)
        if pending.everything or pending.more or pending.paths:
            self.phase = "scanning"
            self._on_change()
            wanted = None if pending.everything else pending.paths
            seen = await self._runtime.in_thread(self._observer.look, wanted)
            if seen.missing is not None:
                self._pending.add(pending)  # to what was noted while it was looked
                self.root_missing, self.phase = seen.missing, "error"
                self._later("root", RETRY_BLOCKED_S, self.wake.note)
                return None
            self.root_missing = None
            self._pending.more |= seen.more
            if seen.cleared:
                pending.nodes |= self._waiting
                self._waiting = set()
            paths |= seen.changed
            self._look_again(seen)
        nodes, self._replica.dirty = self._replica.dirty | pending.nodes | self._undone, set()
        self._undone = set()
        return Scope(frozenset(paths), frozenset(nodes))

    async def _review_sought(self) -> None:
        """See what became of what rejections bring back."""
        self._pending.nodes |= await self.sought.review(self._pool.unavailable())
        if self.sought.look_s is not None:
            self._later("sought", self.sought.look_s, self.wake.note)

    async def _give_up_replaced(self) -> None:
        """Where the user put another file in place of what nobody has, that is what is meant."""
        view = self._replica.view
        for path, (node, _) in self.sought.lost.items():
            row, face = self._observer.local.at(path), view.face(node)
            if self._may_write and row is not None and face is not None and row.content != face.content:
                await self._publish(giving_up(view, [node]))

    def _look_again(self, seen: Observation) -> None:
        if seen.again:
            self._racy.update(seen.again)
            self._later("racy", FOLDER_RACY_WINDOW_NS / 1e9 + 0.1, lambda: self._look_at_all(self._racy))
        passing = [path for path, problem in seen.problems.items() if problem.reason in PASSING]
        if passing:
            self._passing.update(passing)
            self._later("passing", RETRY_BLOCKED_S, lambda: self._look_at_all(self._passing))

    def _look_at_all(self, paths: set[Path]) -> None:
        self.look_at(list(paths))
        paths.clear()

    def _later(self, kind: str, seconds: float, action: Callable[[], None]) -> None:
        """Act in `seconds`, unless a timer of this `kind` runs: it acts for all that waits, and no later.

        A timer that is set anew by each round would never end while rounds go on.
        """
        if kind in self._timers or self._closed:
            return

        async def wait() -> None:
            await self._runtime.sleep(seconds)
            del self._timers[kind]
            action()

        self._timers[kind] = self._runtime.spawn(wait(), f"folder timer: {kind}")

    # --- publish --------------------------------------------------------------------------------------------

    async def _settle_and_publish(self, plan: Plan) -> bool:
        """Record what is true already, publish what the user did; return whether anything was published."""
        await self._runtime.in_thread(self._find_moved, plan)
        if plan.settled or plan.forgotten:
            hashed = self._hashed_of(plan.settled)
            await self._runtime.in_thread(self._store.keep_rows, plan.settled, plan.forgotten, hashed)
            for row in plan.settled:
                self._synced.put(row)
            for node in plan.forgotten:
                self._synced.remove(node)
            self._drop_hashed(plan.settled)
        if not len(plan.publish):
            return False
        await self._publish(plan.publish)
        self.guard.done(
            Side.PUBLISH, (node for at in (plan.drops, plan.rewrites) for there in at.values() for node in there)
        )
        return True

    @property
    def _may_write(self) -> bool:
        return self._replica.membership.may_write(self._replica.device.device)

    async def _make_way(self, plan: Plan) -> bool:
        """Where this device may not write, take out of the way what keeps others' changes from its disk."""
        if self._may_write:
            return False
        touched = await self._runtime.in_thread(self._way.make_way, self._unpublished, plan.undone, self._replica.view)
        self._pending.paths |= touched
        self._pending.plan |= touched
        if touched:
            self._replan = True
        return bool(touched)

    async def _publish(self, draft: Draft) -> None:
        publisher = Publisher(draft)
        while await self._publish_batch(publisher):
            pass

    async def _publish_batch(self, publisher: Publisher) -> bool:
        made: list[EntryDraft] = []

        def build(chain: ChainId, seq: int) -> Sequence[Op]:
            batch = publisher.next_batch(chain, seq)
            if batch is None:
                return ()
            made.append(batch)
            return batch.ops

        def also(entry: OpenedEntry) -> None:
            batch = made[0].named(UNNAMED_CHAIN, entry.chain)
            made[0] = batch
            self._store.keep_rows(batch.rows, batch.gone, self._hashed_of(batch.rows))
            self.guard.save()

        entry = await self._replica.append(build, also)
        if entry is None:
            return False
        self.guard.saved()
        publisher.name_chain(UNNAMED_CHAIN, entry.chain)
        for row in made[0].rows:
            self._synced.put(row)
        for node in made[0].gone:
            self._synced.remove(node)
        self._drop_hashed(made[0].rows)
        return True

    def _find_moved(self, plan: Plan) -> None:
        """Remember where the chunks lie of files that become other nodes unread: nobody could have them otherwise."""
        forgotten = {*plan.forgotten, *(node for change in plan.publish.changes for node in change.gone)}
        held = {row.content: node for node in forgotten if (row := self._synced.rows.get(node)) and not row.order}
        wanted = {row.content for change in plan.publish.changes for row in change.rows} | {
            row.content for row in plan.settled
        }
        chunks = self._store.chunks
        self._moved = {
            content: Hashed(content, tuple(chunks.file_chunks(node)), ())
            for content, node in held.items()
            if content in wanted and content.kind is Kind.FILE
        }

    def _hashed_of(self, rows: Sequence[object]) -> dict[NodeId, Hashed | Staged]:
        found: dict[NodeId, Hashed | Staged] = {}
        by_content = self._moved | {hashed.content: hashed for hashed in self._observer.hashed.values()}
        for row in rows:
            hashed = by_content.get(row.content)  # type: ignore[attr-defined]
            if hashed is not None:
                found[row.node] = hashed  # type: ignore[attr-defined]
        return found

    def _drop_hashed(self, rows: Sequence[object]) -> None:
        for row in rows:
            path = self._synced.path_of(row.node)  # type: ignore[attr-defined]
            if path is not None:
                self._observer.hashed.pop(path, None)

    # --- apply ----------------------------------------------------------------------------------------------

    def _take_plan(self, plan: Plan, scope: Scope, full: bool) -> None:
        """Replace what was planned for the scope by the new plan."""
        dropped, again = self._unfinished.drop(None if full else scope, plan.apply)
        self._pending.nodes |= again
        wanted = {action.node: action for action in plan.apply if isinstance(action, WriteFile)}
        for node in dropped - wanted.keys():
            self._pool.cancel(node)
            self._blocked.pop(node, None)
        staged = [node for node, action in wanted.items() if self._pool.want(action)]
        self._undone = plan.undone
        self._waiting = plan.waiting if full else self._waiting | plan.waiting
        if plan.undone:
            self._later("undone", RETRY_BLOCKED_S, self.wake.note)
        self._unfinished.add(plan.apply, staged)
        self._pool.start()

    async def _apply_ready(self) -> bool:
        """Carry out what waits for nothing; return whether anything was done."""
        self._unfinished.arrived(set(self._pool.take_finished()))
        for node, error in self._pool.take_failed():
            self._note_blocked(node, self._unfinished.path_of(node), error)
        ready = self._unfinished.ready(self._is_blocked)
        if not ready:
            return False
        for start in range(0, len(ready), APPLY_BATCH_MAX):
            await self._apply_groups(ready[start : start + APPLY_BATCH_MAX])
        return True

    async def _unchanged(self, groups: list[Group]) -> list[Group]:
        """Return the groups that take out of the tree only what is as it was seen; have the rest looked at.

        No scan sees what lies out of the tree, so what its user changed before would be removed with it.
        """
        changed = set()
        for group in groups:
            for path in taken_out(group):
                if not await self._runtime.in_thread(self._observer.is_as_seen, path):
                    self._pending.paths.add(path)
                    changed.add(group)
        self._pending.nodes |= self._unfinished.give_up(changed)
        return [group for group in groups if group not in changed]

    async def _apply_groups(self, groups: list[Group]) -> None:
        groups = await self._unchanged(groups)
        actions = [action for group in groups for action in group.actions]
        staged = {a.node: self._pool.staged(a.node) for a in actions if isinstance(a, WriteFile)}
        writes = [action for action in actions if isinstance(action, WriteFile)]
        parts = [writes[at::APPLY_THREADS] for at in range(min(APPLY_THREADS, len(writes)))]
        jobs = [self._runtime.in_thread(self._runner.prepare, part, staged) for part in parts]
        tasks = [self._runtime.spawn(job, "prepare files") for job in jobs]
        prepared = [await task for task in tasks]
        prepared.append(await self._spares.keep(actions, self._replica.view))
        applied = await self._runtime.in_thread(self._runner.run, actions, staged, prepared)
        applied.gone += self._taken_away_in(applied)
        self._unrecorded = (groups, staged, applied)
        await self._record_applied()

    def _taken_away_in(self, applied: Applied) -> list[NodeId]:
        """Return what should have lain in directories that could be removed: its user took it away, unseen.

        With the directory's row gone no path leads to it any more, and no plan would look at it again.
        """
        removed = [node for each in applied.done if isinstance(each, Remove) for node in gone_by(each)]
        known = {row.node for row in applied.rows} | set(applied.gone)
        return [row.node for row in self._synced.below(removed) if row.node not in known]

    async def _record_applied(self) -> None:
        """Record what was applied last, unless that is done. Raises ResourceError: the next round begins with it."""
        if self._unrecorded is None:
            return
        groups, staged, applied = self._unrecorded
        await self._runtime.in_thread(self._runner.record, applied, staged)
        self._unrecorded = None
        self.guard.saved()
        self.guard.done(Side.APPLY, {node for action in applied.done for node in (action.node, *gone_by(action))})
        self._believe(applied)
        done = set(map(id, applied.done))
        for action in applied.done:
            self._blocked.pop(action.node, None)
            if isinstance(action, WriteFile):
                self._pool.forget(action.node)
        for action, path in applied.changed:
            self._pending.paths.add(path)
            if isinstance(action, Move):
                self._pending.paths.add(path_text(action.target))
            self._pending.plan.add(path)
            self._pending.nodes |= nodes_of(action)
        if any(isinstance(path, ParkedPath) for _, path in applied.changed):
            await self._forget_lost_parked()
        for action, error in applied.damaged:
            log.error("%s: %s", display(path_text(action.target)), error)
            self._pool.discard(action.node)
            self._pending.nodes.add(action.node)
        for action, path, blocked in applied.blocked:
            why = f"{blocked.reason.value}{': ' if blocked.detail else ''}{blocked.detail}"
            self._note_blocked(action.node, path, why)
            if blocked.reason is Reason.NOT_EMPTY and not isinstance(path, ParkedPath):
                self._pending.paths.add(path)  # it holds what nobody told of
        finished = {group for group in groups if all(id(action) in done for action in group.actions)}
        self._unfinished.finish(finished)
        failed = {group for group in groups if group not in finished and not self._is_blocked(group)}
        self._pending.nodes |= self._unfinished.give_up(failed)
        self._on_change()

    async def _forget_lost_parked(self) -> None:
        """What lay out of the tree and was taken away there is nothing to move: the next plan brings it anew."""
        with contextlib.suppress(ResourceError):  # then it is tried again
            lost = await self._runtime.in_thread(self._runner.lost_parked, self._synced)
            await self._runtime.in_thread(self._store.keep_rows, (), lost, {})
            for node in lost:
                self._synced.remove(node)
            self._pending.nodes.update(lost)

    def _believe(self, applied: Applied) -> None:
        local = self._observer.local
        for before, now, exchanged in applied.moved:
            self._move_local(before, now, exchanged)
        for path in applied.removed:
            local.remove(path)
        for observed in applied.local:
            local.put(observed)
        for row in applied.rows:
            self._synced.put(row)
        for node in applied.gone:
            self._synced.remove(node)

    def _move_local(self, before: Path, now: Path, exchanged: bool) -> None:
        local = self._observer.local
        there = [] if isinstance(before, ParkedPath) else list(local.walk(before))
        back = list(local.walk(now)) if exchanged and not isinstance(now, ParkedPath) else []
        local.remove(before)
        local.remove(now)
        if not isinstance(now, ParkedPath):
            for row in there:
                local.put(replace(row, path=now + row.path[len(before) :]))
        if not isinstance(before, ParkedPath):
            for row in back:
                local.put(replace(row, path=before + row.path[len(now) :]))
        in_tree = {path for path in (before, now) if not isinstance(path, ParkedPath)}
        # A rename moves ctime: the scan that the watcher asks for would take it for a change of the user's.
        self._pending.paths |= in_tree
        if len(in_tree) == 1:  # no look has seen what came out of the control directory, so none finds it gone
            self._pending.plan |= in_tree

    def _note_blocked(self, node: NodeId, path: Path, why: str) -> None:
        if node not in self._blocked:
            log.warning("%s waits: %s", display(path), why)
            self._later("blocked", RETRY_BLOCKED_S, self._retry_blocked)
        self._blocked[node] = (path, why)

    def _retry_blocked(self) -> None:
        self._pending.nodes |= self._blocked.keys()
        self._blocked.clear()
        self.wake.note()

    def _is_blocked(self, group: Group) -> bool:
        return any(action.node in self._blocked for action in group.actions)


async def _nothing() -> None:
    return


def _is_in(path: Path, scope: Scope | None) -> bool:
    """Tell whether a plan for `scope` looked at `path`."""
    return scope is None or any(path[:depth] in scope.paths for depth in range(len(path) + 1))
