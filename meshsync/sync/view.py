"""The folder tree as a pure function of the set of delivered entries, kept up to date entry by entry.

Invariant: after `apply`, the view is what `tests/model/view_model.py` computes from the same entries, whatever their
order of arrival. Rules: `semantics.md` 1.3, 2 and 3; spec: docs/spec/view.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from meshsync.content.record import Attr, Drop, Keep, Mark, Op, Place, Put
from meshsync.errors import MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, ROOT, ChainId, Dot, NodeId, dot, dot_parts, short
from meshsync.sync.delivered import DeliveredEntry, named_dots
from meshsync.sync.faces import covered_by
from meshsync.sync.listing import Listing, Path, Shown
from meshsync.sync.names import copy_id, path_id
from meshsync.sync.node import DIRECTORY, Claim, Face, Kept, Node, Placement, Version
from meshsync.sync.placement import MoveLog
from meshsync.sync.stamp import FIRST, Stamp
from meshsync.sync.tables import Tables


class View:
    """What is shown where. One writer; lookups between two calls of `apply` agree with each other."""

    def __init__(self) -> None:
        self.vector: dict[ChainId, int] = {}
        self._void: set[tuple[ChainId, int]] = set()  # entries in the view that count for nothing
        self.versions: dict[Dot, Version] = {}
        self.nodes: dict[NodeId, Node] = {}
        self._copies: dict[NodeId, NodeId] = {}
        self._orphans: dict[NodeId, set[NodeId]] = {}  # unknown parent → nodes that name it
        self._listing = Listing(self.nodes, self._copies, self.versions)
        self._tables = Tables(self.nodes, self._copies, self, self._listing)
        self._log = MoveLog(self.nodes.__getitem__, self._resolve)
        self._dirty: set[NodeId] = set()  # nodes whose own state changed in this apply
        root = self._node(ROOT)
        root.directory = True

    # --- lookups ---------------------------------------------------------------------------------------------

    def face(self, node: NodeId) -> Face | None:
        """Return how `node` is placed and what it holds, None if it is not shown."""
        return self._listing.face(node)

    def shown(self, node: NodeId) -> Shown | None:
        """Return what shows `node` in its directory, under its shown name; None if it is not shown."""
        return self._listing.shown(node)

    def shown_in(self, parents: tuple[NodeId, ...], face: Face) -> Shown:
        """Return what shows `face` in its directory, which `parents` (`merged`) are shown as."""
        return self._listing.shown_in(parents, face)

    def shown_children(self, directory: NodeId) -> dict[bytes, Shown]:
        """Return shown name → what it shows, for the directory that `directory` is shown as; {} if it is not."""
        return self._listing.children(directory)

    def merged(self, directory: NodeId) -> tuple[NodeId, ...]:
        """Return all directory nodes that are shown as one with `directory`, it included; () if it is not shown."""
        return self._listing.merged(directory)

    def resolve(self, path: Path) -> Shown | None:
        """Return what is shown at `path`, a non-empty tuple of names, or None."""
        return self._listing.resolve(path)

    def path_of(self, node: NodeId) -> Path | None:
        """Return the path at which `node` is shown, None if it is not."""
        return self._listing.path_of(node)

    def walk(self) -> Iterator[tuple[Path, Shown]]:
        """Yield (path, what is shown) for the whole tree, each directory before its children."""
        return self._listing.walk()

    def version(self, name: Dot) -> Version | None:
        """Return a version that the view remembers, live or not, None for one that is gone or never was."""
        return self.versions.get(name)

    def is_shown(self, name: Dot) -> bool:
        """Tell whether the content of a version shows somewhere: not once it is replaced or removed, nor as long as it
        adds nothing to another version that shows in its place (a touch of what that one replaced)."""
        return self.shown_as(name) is not None

    def shown_as(self, name: Dot) -> Face | None:
        """Return the face that shows the content of a version, None if it is not shown."""
        version = self.versions.get(name)
        if version is None or not version.live:
            return None
        faces = self.nodes[version.owner].faces
        return next((face for face in faces if name in face.versions and face.content == version.content), None)

    def live_versions(self, node: NodeId) -> tuple[Version, ...]:
        """Return the live versions that belong to `node`, latest stamp first."""
        record = self.nodes.get(node)
        return () if record is None else tuple(sorted(record.live, key=lambda v: v.stamp, reverse=True))

    def covered_by(self, node: NodeId, version: Dot) -> tuple[Dot, ...]:
        """Return the live versions of `node` that are hidden for nothing but `version`, one of its conflict copies."""
        record = self.nodes.get(node)
        return () if record is None else covered_by(record, version, self.versions)

    def covers(self, name: Dot) -> bool:
        """Tell whether the entry that holds the operation `name` has entered the view (`name` may be gone since).

        False for what a removed device signed beyond its pin: that it is not here gives no right to remove anything.
        """
        chain, seq, _ = dot_parts(name)
        return seq <= self.vector.get(chain, 0) and (chain, seq) not in self._void

    def missing(self, entry: DeliveredEntry) -> set[tuple[ChainId, int]]:
        """Return (chain, seq) of entries that `entry` names and that are not in the view; empty if it may enter."""
        absent: set[tuple[ChainId, int]] = set()
        if entry.seq > 1 and self.vector.get(entry.chain, 0) < entry.seq - 1:
            absent.add((entry.chain, entry.seq - 1))
        for name in named_dots(entry.ops):
            chain, seq, _ = dot_parts(name)
            if seq > self.vector.get(chain, 0) and (chain, seq) != (entry.chain, entry.seq):
                absent.add((chain, seq))
        return absent

    # --- entries ---------------------------------------------------------------------------------------------

    def apply(self, entry: DeliveredEntry) -> set[NodeId]:
        """Take one entry; return all nodes whose state, content, place or shown name may have changed.

        An entry that is in the view already changes nothing. Of a directory that moved, only the directory itself is
        returned. Raises MalformedMessage, with the view unchanged, if something that the entry names is `missing`.
        """
        if entry.seq <= self.vector.get(entry.chain, 0):
            return set()
        if absent := self.missing(entry):
            chain, seq = min(absent)
            raise MalformedMessage(f"entry {short(entry.chain)}:{entry.seq} came before {short(chain)}:{seq}")
        self.vector[entry.chain] = entry.seq
        for index, op in enumerate(entry.ops):
            self._apply(Stamp(entry.time, entry.device, dot(entry.chain, entry.seq, index)), op)
        changed = self._tables.settle() | self._dirty
        self._dirty = set()
        return changed

    def restore(self, nodes: Iterable[Node], versions: Iterable[Version], vector: Mapping[ChainId, int]) -> None:
        """Take the state of another view into this one, which is empty. See `checkpoint.restore`."""
        assert not self.vector, "a view is restored before its first entry"
        self.vector.update(vector)
        self.nodes.update((node.id, node) for node in nodes)
        for version in sorted(versions, key=lambda version: version.stamp):
            self.versions[version.dot] = version
            if version.live:
                self._node(version.owner).live += (version,)
        directories = [node for node in self.nodes.values() if node.directory and node.id != ROOT]
        for node in directories:
            self._start(node)
        moves = [(move, node) for node in directories for move in node.moves]
        for move, node in sorted(moves, key=lambda pair: pair[0].stamp):
            for _ in self._log.insert(node, move):
                pass
        for name in sorted(self.nodes):
            self._tables.add(name)
        self._tables.settle()
        self._dirty = set()

    def void(self, chain: ChainId, seq: int) -> None:
        """Take an entry of a removed device beyond its pin: it counts as delivered, and changes nothing.

        Call it in the place of `apply`, for the same order.
        """
        self.vector[chain] = max(seq, self.vector.get(chain, 0))
        self._void.add((chain, seq))

    def _apply(self, stamp: Stamp, op: Op) -> None:
        if isinstance(op, Put):
            self._put(stamp, op)
        elif isinstance(op, Place):
            self._place(stamp, op)
        elif isinstance(op, Drop):
            self._drop(stamp, op)
        elif isinstance(op, Attr):
            self._attr(stamp, op)
        if not isinstance(op, Attr | Mark):
            for keep in op.keeps:
                self._keep(stamp, keep)

    def _put(self, stamp: Stamp, op: Put) -> None:
        node = self._node(NodeId(stamp.dot) if op.node is None else op.node)
        path = () if self._is_known(op.parent) else op.path
        version = Version(stamp, node.id, op.content, op.executable, op.mtime_ns, op.replaces, op.parent, op.name, path)
        self.versions[stamp.dot] = version
        node.puts += (version,)
        node.live += (version,)
        if op.node is None:
            node.origin = Placement(stamp, op.parent, op.name, path, frozenset())
            node.origin_executable = op.executable
        if op.content == DIRECTORY:
            self._put_directory(node, stamp, op)
        self._touch(node.id)
        for name in op.replaces:
            replaced = self.versions.get(name)
            if replaced is not None:
                replaced.replaced = True
                replaced.end(stamp)
                self._dirty.add(replaced.node)
                self._update_live(replaced)
                self._own(replaced, node.id)

    def _place(self, stamp: Stamp, op: Place) -> None:
        node = self._node(op.node)
        path = () if self._is_known(op.parent) else op.path
        carried = [version for name in op.carries if (version := self.versions.get(name)) is not None]
        placement = Placement(stamp, op.parent, op.name, path, frozenset(version.dot for version in carried))
        node.moves += (placement,)
        if node.placed is None or stamp > node.placed.stamp:
            node.placed, node.kept = placement, None
        if node.directory:
            self._touch_all(self._log.insert(node, placement))
        self._touch(node.id)
        for version in carried:
            self._update_live(version)
            self._own(version, node.id)

    def _drop(self, stamp: Stamp, op: Drop) -> None:
        claims: list[Claim] = []
        for item in op.items:
            since = FIRST
            for move in self.nodes[item.node].moves if item.node in self.nodes else ():
                if move.stamp.dot == item.placement:
                    since = move.stamp
            claims.append(Claim(item.node, since, claims[item.parent] if item.parent >= 0 else None))
            for name in item.versions:
                version = self.versions.get(name)
                if version is not None:
                    version.claims += (claims[-1],)
                    version.end(stamp)
                    self._dirty.add(version.node)
                    self._update_live(version)
                    self._own(version, item.node)

    def _attr(self, stamp: Stamp, op: Attr) -> None:
        node = self._node(op.node)
        if node.attr is None or stamp > node.attr[0]:
            node.attr = stamp, op.executable
        self._touch(node.id)
        if op.node in self._copies:
            self._touch(self._copies[op.node])

    def _keep(self, stamp: Stamp, keep: Keep) -> None:
        node = self._node(keep.node if keep.version is None else copy_id(keep.node, keep.version))
        base = node.base
        placed = keep.placed if keep.version is None else None
        if placed == (None if base is None else base.stamp.dot) and (node.kept is None or stamp >= node.kept.stamp):
            node.kept = Kept(stamp, placed, keep.parent, keep.name)
        self._touch(node.id)
        if keep.version is not None and keep.version in self.versions:
            self._own(self.versions[keep.version], node.id)

    # --- versions --------------------------------------------------------------------------------------------

    def _update_live(self, version: Version) -> None:
        live = not version.replaced and all(self._carried(version, claim) for claim in version.claims)
        if live != version.live:
            self._dirty.add(version.node)
            owner = self._node(version.owner)
            owner.live = (*owner.live, version) if live else tuple(v for v in owner.live if v is not version)
            version.live = live
            self._touch(owner.id)

    def _carried(self, version: Version, claim: Claim | None) -> bool:
        """Tell whether a placement newer than what a drop had on disk carries the version (`semantics.md` 2.3)."""
        while claim is not None:
            for move in self.nodes[claim.node].moves if claim.node in self.nodes else ():
                if move.stamp > claim.since and version.dot in move.carries:
                    return True
            claim = claim.above
        return False

    def _own(self, version: Version, copy: NodeId) -> None:
        """An operation on `copy` names `version`: if it is the version's conflict copy, the version moves there.

        Directories have no conflict copies.
        """
        if len(copy) != ID_SIZE_BYTES or copy in version.touches or version.content == DIRECTORY:
            return
        version.touches += (copy,)
        owner = version.node
        while (following := copy_id(owner, version.dot)) in version.touches:
            owner = following
        if owner == version.owner:
            return
        before, after = self._node(version.owner), self._node(owner)
        version.owner = owner
        self._dirty.add(version.node)
        if version.live:
            before.live = tuple(v for v in before.live if v is not version)
            after.live += (version,)
        self._touch(before.id)
        self._touch(after.id)

    # --- directories -----------------------------------------------------------------------------------------

    def _put_directory(self, node: Node, stamp: Stamp, op: Put) -> None:
        if node.origin_executable is None and (node.origin is None or stamp < node.origin.stamp):
            node.origin = Placement(stamp, self._stand_in(op.path[:-1]), op.path[-1], (), frozenset())
            change = True
        else:
            change = not node.directory
        if not change:
            return
        named = self._orphans.pop(node.id, None)
        node.directory = True
        if node.tree is None and not node.moves and named is None:
            self._start(node)
        else:
            waiting = named or set()
            self._touch_all(self._log.replay(lambda: self._restart(node, waiting)))
            self._touch_all(self._nodes_of(waiting))
        for move in node.moves:
            self._touch_all(self._log.insert(node, move))

    def _restart(self, node: Node, waiting: set[NodeId]) -> None:
        self._start(node)
        for other in self._nodes_of(waiting):
            if other.directory:
                self._start(other)

    def _start(self, node: Node) -> None:
        """Set where a directory is before any move."""
        origin = node.origin
        assert origin is not None
        if node.origin_executable is not None:
            node.tree = self._resolve(origin)
            self._await(node.id, origin.parent)
        else:
            node.tree = Placement(FIRST, origin.parent, origin.name, (), frozenset())

    def _resolve(self, placement: Placement) -> Placement:
        if self._is_known(placement.parent):
            return placement
        self._orphans.setdefault(placement.parent, set())  # once it is known, all moves are replayed
        return placement._replace(parent=self._stand_in(placement.path[:-1]))

    def _is_known(self, node: NodeId) -> bool:
        record = self.nodes.get(node)
        return record is not None and record.directory

    def _await(self, node: NodeId, parent: NodeId) -> None:
        if not self._is_known(parent):
            self._orphans.setdefault(parent, set()).add(node)

    def parent_of(self, node: NodeId, parent: NodeId, path: tuple[bytes, ...]) -> NodeId:
        """Part of `faces.Context`."""
        if self._is_known(parent):
            return parent
        self._await(node, parent)
        return self._stand_in(path)

    def attr_of(self, node: NodeId) -> bool | None:
        """Part of `faces.Context`."""
        record = self.nodes.get(node)
        return None if record is None or record.attr is None else record.attr[1]

    def _stand_in(self, path: tuple[bytes, ...]) -> NodeId:
        """Return the directory that stands for a path of which nothing is known; it is made if need be."""
        parent = ROOT
        for depth in range(1, len(path) + 1):
            node = self._node(path_id(path[:depth]))
            if node.tree is None:
                node.tree = Placement(FIRST, parent, path[depth - 1], (), frozenset())
            parent = node.id
        return parent

    # --- nodes -----------------------------------------------------------------------------------------------

    def _node(self, node: NodeId) -> Node:
        record = self.nodes.get(node)
        if record is None:
            record = self.nodes[node] = Node(node)
        return record

    def _nodes_of(self, ids: set[NodeId]) -> list[Node]:
        return [self.nodes[node] for node in sorted(ids)]

    def _touch(self, node: NodeId) -> None:
        self._dirty.add(node)
        self._tables.add(node)

    def _touch_all(self, nodes: Iterator[Node] | list[Node]) -> None:
        for node in nodes:
            self._touch(node.id)
