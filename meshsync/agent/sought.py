"""What rejected deletions bring back to this disk, and of that what nobody who can be reached has any more.

Invariant: what nobody has is waited for by nothing: plans leave it out, and look again when somebody else can be asked,
or after a while. Nothing is deleted for it: a device that is away may hold the only copy. Its user may give it up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from meshsync.agent.changes import Changes
from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Kind
from meshsync.ids import Dot, NodeId
from meshsync.index.meta import Meta
from meshsync.limits import RETRY_BLOCKED_S, SOUGHT_BYTES_MAX, SOUGHT_LOOK_S, SOUGHT_RETRY_S
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import Path
from meshsync.sync.reconcile import Frozen
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View

SOUGHT_KEY = "sought after rejections"


class _Row(Record, frozen=True):
    hold: str
    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where content may come from: the names of all that are asked now, and whether a relay keeps one of `versions`."""

    names: Callable[[], Collection[str]]
    kept: Callable[[Collection[Dot]], bool]


class Sought:
    """Belongs to one folder loop. `lost` are nodes that the view shows and nobody who was asked has."""

    def __init__(
        self, runtime: Runtime, meta: Meta, synced: SyncedTree, view: Callable[[], View], sources: Sources
    ) -> None:
        """Load what earlier runs began. Blocking."""
        self.changes = Changes()
        self._runtime = runtime
        self._meta = meta
        self._synced = synced
        self._view = view
        self._sources = sources
        self._holds: dict[NodeId, str] = {}
        self._lost: dict[NodeId, tuple[Dot, ...]] = {}
        self._asked: frozenset[str] = frozenset()
        self._retry_s = 0.0
        for row in decode(tuple[_Row, ...], meta.get(SOUGHT_KEY) or encode(()), SOUGHT_BYTES_MAX):
            self._holds.update((NodeId(node), row.hold) for node in row.nodes)

    @property
    def look_s(self) -> float | None:
        """In how many seconds to review again; None while nothing is sought."""
        if not self._holds:
            return None
        return SOUGHT_LOOK_S if self._holds.keys() - self._lost.keys() else RETRY_BLOCKED_S

    @property
    def lost(self) -> dict[Path, tuple[NodeId, str]]:
        """Return where the folder shows what nobody has, its node, and the hold whose rejection was to bring it."""
        view = self._view()
        found = {node: view.path_of(node) for node in self._lost}
        return {path: (node, self._holds[node]) for node, path in found.items() if path}

    @property
    def frozen(self) -> Frozen:
        """What plans leave out."""
        return Frozen(nodes=frozenset(self._lost))

    def of(self, hold: str) -> list[NodeId]:
        """Return the lost nodes that the rejection of `hold` was to bring back."""
        return sorted(node for node in self._lost if self._holds[node] == hold)

    def begin(self, hold: str, nodes: Collection[NodeId]) -> None:
        """The rejection of `hold` brings back `nodes`. Blocking; call it in the transaction that makes it true."""
        view = self._view()
        faces = {node: view.face(node) for node in nodes}
        files = [node for node, face in faces.items() if face is not None and face.content.kind is Kind.FILE]
        self._save({**self._holds, **dict.fromkeys(files, hold)})

    async def review(self, unavailable: Collection[NodeId]) -> set[NodeId]:
        """Take note of what came, of what nobody has (`unavailable`) and of what is to be asked for again.

        Return the nodes to be planned for anew.
        """
        view, now = self._view(), self._runtime.monotonic()
        faces = {node: view.face(node) for node in self._holds}
        over = {node for node, face in faces.items() if face is None or node in self._synced.rows}
        names = frozenset(self._sources.names())
        again = not names <= self._asked or now >= self._retry_s
        back = {
            node
            for node, versions in self._lost.items()
            if again or node in over or (face := faces[node]) is None or face.versions != versions
        }
        for node in back:
            del self._lost[node]
        if over:
            await self._runtime.in_thread(self._save, {n: hold for n, hold in self._holds.items() if n not in over})
        new = {}
        for node in self._holds.keys() & set(unavailable) - back:
            face = faces[node]
            if face is not None and not self._sources.kept(face.versions):
                new[node] = face.versions
        if new:
            self._lost.update(new)
            self._asked, self._retry_s = names, now + SOUGHT_RETRY_S
        if over or back or new:
            self.changes.note()
        return back | new.keys()

    async def decided(self, hold: str) -> None:
        """Return as soon as everything that the rejection of `hold` brings back is here, or is known to be lost."""
        count = self.changes.count
        while any(each == hold and node not in self._lost for node, each in self._holds.items()):
            count = await self.changes.after(count)

    def _save(self, holds: dict[NodeId, str]) -> None:
        by_hold: dict[str, list[bytes]] = {}
        for node, hold in sorted(holds.items()):
            by_hold.setdefault(hold, []).append(node)
        if by_hold:
            rows = tuple(_Row(hold, tuple(nodes)) for hold, nodes in sorted(by_hold.items()))
            self._meta.set(SOUGHT_KEY, encode(rows))
        elif self._meta.get(SOUGHT_KEY) is not None:
            self._meta.delete(SOUGHT_KEY)
        self._holds = holds
