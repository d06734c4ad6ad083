"""The user's decisions about holds: asked by the local API, carried out by the folder's loop between two plans.

Invariant: a decision is carried out whole before anything else is planned, or the hold stays and whoever asked is told
why. What a rejection is about to replace on this disk is set aside first.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from meshsync.agent.folder_store import FolderStore
from meshsync.agent.observer import Observer, display
from meshsync.agent.safeguard import Hold, Safeguard
from meshsync.agent.sought import Sought
from meshsync.agent.turns import Turns
from meshsync.errors import MeshsyncError, NotFound, ResourceError, TransientError
from meshsync.folder.aside import kept_path, set_aside
from meshsync.folder.types import Blocked, Changed
from meshsync.folder.types import Stat as DiskStat
from meshsync.ids import NodeId
from meshsync.limits import HELD_ID_BYTES, REJECT_ANSWER_S
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import LocalRow, Path, Stat, SyncedRow
from meshsync.sync.draft import Draft
from meshsync.sync.rejecting import giving_up, restoring
from meshsync.sync.safety import Change, Side, restoring_causes
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View


class Verb(enum.Enum):
    """What the user wants of a hold."""

    RELEASE = "released"
    REJECT = "rejected"


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision carried out, about `count` files. What it replaces on this disk lies in `kept_in`; empty: nothing."""

    id: str
    verb: Verb
    count: int
    kept_in: str = ""
    lost: tuple[Path, ...] = ()  # what nobody who could be asked has, so that it did not come back


class Decisions:
    """Belongs to one folder loop. `publish` puts a draft into the log and its rows into the synced tree."""

    def __init__(
        self,
        runtime: Runtime,
        guard: Safeguard,
        store: FolderStore,
        synced: SyncedTree,
        observer: Observer,
        sought: Sought,
        view: Callable[[], View],
        publish: Callable[[Draft], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._guard = guard
        self._store = store
        self._synced = synced
        self._observer = observer
        self._sought = sought
        self._view = view
        self._publish = publish
        self._turns = Turns(wake)

    def __bool__(self) -> bool:
        return bool(self._turns)

    async def ask(self, hold: str, verb: Verb) -> Decided:
        """Have the loop decide; return when that is recorded. Raises NotFound, ResourceError, TransientError,
        RoleForbids; the hold is then as it was. A rejection waits a while for what it brings back, to tell what nobody
        has; to release the same hold afterwards gives that up.
        """
        decided = await self._turns.take(lambda: self._decide(hold, verb))
        if verb is Verb.RELEASE:
            return decided
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REJECT_ANSWER_S):
                await self._sought.decided(hold)
        lost = sorted(path for path, (_, each) in self._sought.lost.items() if each == hold)
        return replace(decided, lost=tuple(lost))

    def refuse(self, error: MeshsyncError) -> None:
        """Nothing can be decided now."""
        self._turns.refuse(error)

    def close(self) -> None:
        """Nothing will be decided any more: tell who waits, and who asks from now on."""
        self._turns.close()

    async def carry_out(self) -> None:
        """Carry out what was asked, in order. Called by the loop; everything is to be planned afterwards."""
        await self._turns.carry_out()

    async def _decide(self, name: str, verb: Verb) -> Decided:
        hold = self._guard.find(name)
        given_up = self._sought.of(name)
        if hold is None and given_up and verb is Verb.RELEASE:
            await self._publish(giving_up(self._view(), given_up))
            return Decided(name, verb, len(given_up))
        if hold is None:
            raise NotFound(f"nothing is held under {name}", next_step="meshsync held")
        kept_in = ""
        if verb is Verb.RELEASE:
            await self._guard.release(hold)
        elif hold.cause.side is Side.APPLY:
            await self._publish(restoring(self._synced, self._view(), hold.nodes))
            await self._guard.reject(hold)
        elif hold.cause.change is Change.DELETION:
            await self._restore(hold, [], list(hold.nodes))
        else:
            kept_in = await self._take_back(hold)
        return Decided(hold.id, verb, hold.count, kept_in)

    async def _take_back(self, hold: Hold) -> str:
        """Have what the view shows written over the files that were rewritten here; set those aside first."""
        label = b"%s-%s" % (hold.id.encode(), self._runtime.random_bytes(HELD_ID_BYTES).hex().encode())
        seen: dict[Path, LocalRow] = {}
        gone: list[NodeId] = []
        nodes: dict[Path, list[SyncedRow]] = {}
        for node in hold.nodes:
            path = self._synced.path_of(node)
            row = None if path is None else self._observer.local.at(path)
            if path is None or row is None:
                gone.append(node)
            else:
                seen[path] = row
                nodes.setdefault(path, []).append(self._synced.rows[node])
        stats, failed = await self._runtime.in_thread(self._set_aside, list(seen.values()), label)
        rows = []
        for path, stat in stats.items():
            row = seen[path]
            if stat is None:
                self._observer.local.remove(path)
                gone += [old.node for old in nodes[path]]
                continue
            now = replace(row, stat=stat)
            self._observer.local.put(now)
            self._observer.hashed.pop(path, None)
            # This disk holds what nobody was told of: the plan finds another content in the view and writes it.
            rows += [
                replace(old, content=row.content, executable=row.executable, mtime_ns=stat.mtime_ns, stat=stat)
                for old in nodes[path]
            ]
        if failed is not None:
            raise failed
        await self._restore(hold, rows, gone)
        return os.fsdecode(b"/".join((self._observer.root.path, *kept_path(label))))

    def _set_aside(
        self, rows: list[LocalRow], label: bytes
    ) -> tuple[dict[Path, Stat | None], TransientError | ResourceError | None]:
        """Keep files where the user finds them, and at their paths; return the stat of each now, None if it went
        meanwhile, and why not all were kept. A second name moves a ctime, so what was done before a failure counts too.
        """
        stats: dict[Path, Stat | None] = {}
        for row in rows:
            outcome = set_aside(self._observer.root, row.path, label, DiskStat(*row.stat), stays=True)
            if isinstance(outcome, Changed):
                return stats, TransientError(
                    "a file is still being changed",
                    path=display(row.path),
                    next_step="End the program that changes it, then reject again.",
                )
            if isinstance(outcome, Blocked):
                return stats, ResourceError(
                    f"a file cannot be kept: {outcome.reason.value}",
                    path=display(row.path),
                    next_step="Make room or allow writing there, then reject again: nothing was replaced.",
                )
            stats[row.path] = None if outcome.stat is None else Stat(*outcome.stat)
        return stats, None

    async def _restore(self, hold: Hold, rows: list[SyncedRow], gone: list[NodeId]) -> None:
        """Record that this disk lacks what the view shows of the nodes; the plan then brings it."""

        def write() -> None:
            self._store.keep_rows(rows, gone, {})
            for row in rows:
                self._store.chunks.remove_file(row.node)
            if hold.cause.change is Change.DELETION:
                self._sought.begin(hold.id, gone)

        restoring_here = restoring_causes({row.node for row in rows}, self._synced, self._view())
        await self._guard.reject(hold, write, restoring_here)
        for row in rows:
            self._synced.put(row)
        for node in gone:
            self._synced.remove(node)
