"""The view as one simple function: a set of delivered entries in, a tree out. Specification of `meshsync.sync.view`.

Invariant: nothing but the set of entries matters; every rule of `semantics.md` 2 and 3 stands here once, without any
regard to speed. Checkpoints and incremental work are the engine's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from meshsync.content.record import Attr, Content, Drop, Dropped, Keep, Kind, Op, Place, Put
from meshsync.ids import ROOT, DeviceId, Dot, NodeId, dot
from meshsync.limits import ANCESTORS_MAX, DERIVED_NAME_TRIES
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.names import copy_id, derived_name, path_id
from meshsync.sync.stamp import FIRST, Stamp

DIRECTORY = Content(Kind.DIRECTORY)


class Version(NamedTuple):
    """One put: where it was put, and what it says."""

    stamp: Stamp
    node: NodeId
    op: Put


def place_of(version: Version) -> tuple[Content, NodeId, bytes]:
    """Return what a version holds, and where its author had it."""
    return version.op.content, version.op.parent, version.op.name


class Spot(NamedTuple):
    """Where a node is placed: latest placement (None where no operation placed it), and the stamp, parent and name that
    count: of a directory's latest move that makes no cycle."""

    placement: Dot | None
    stamp: Stamp
    parent: NodeId
    name: bytes


@dataclass(frozen=True)
class Face:
    """One node as it is shown: `versions` are those that the shown content stands for."""

    node: NodeId
    spot: Spot
    content: Content
    versions: tuple[Dot, ...]
    executable: bool
    mtime_ns: int  # 0 for directories
    device: DeviceId
    copy_of: NodeId | None = None
    originals: bool = False  # all versions replace nothing


@dataclass
class Shown:
    """One path of the tree: the nodes that show there as one, first the one that gives the content."""

    faces: list[Face]
    name: bytes
    children: dict[bytes, Shown] = field(default_factory=dict)

    @property
    def face(self) -> Face:
        return self.faces[0]


class ViewModel:
    """The tree that a set of entries makes."""

    def __init__(self, entries: Iterable[DeliveredEntry]) -> None:
        self.ops: list[tuple[Stamp, Op]] = sorted(
            (
                (Stamp(entry.time, entry.device, dot(entry.chain, entry.seq, index)), op)
                for entry in entries
                for index, op in enumerate(entry.ops)
            ),
            key=lambda pair: pair[0],
        )
        self.versions = {
            stamp.dot: Version(stamp, NodeId(stamp.dot) if op.node is None else op.node, op)
            for stamp, op in self.ops
            if isinstance(op, Put)
        }
        self.places = {stamp.dot: (stamp, op) for stamp, op in self.ops if isinstance(op, Place)}
        self.keeps = [
            (stamp, keep) for stamp, op in self.ops if isinstance(op, Put | Place | Drop) for keep in op.keeps
        ]
        self._find_live()
        self._find_owners()
        self._find_directories()
        self._place_directories()
        self._make_faces()
        self.root: dict[bytes, Shown] = self._resolve([ROOT])

    # --- which versions are live -----------------------------------------------------------------------------

    def _find_live(self) -> None:
        dead: set[Dot] = set()
        for _, op in self.ops:
            if isinstance(op, Put):
                dead.update(op.replaces)
            elif isinstance(op, Drop):
                for item in op.items:
                    dead.update(v for v in item.versions if not self._carried(op, item, v))
        self.live = {name: version for name, version in self.versions.items() if name not in dead}

    def _carried(self, drop: Drop, item: Dropped, version: Dot) -> bool:
        while True:
            placed = self.places.get(item.placement)
            since = placed[0] if placed is not None and placed[1].node == item.node else FIRST
            for stamp, place in self.places.values():
                if place.node == item.node and stamp > since and version in place.carries:
                    return True
            if item.parent < 0:
                return False
            item = drop.items[item.parent]

    def _find_owners(self) -> None:
        touched: set[tuple[NodeId, Dot]] = {
            (copy_id(keep.node, keep.version), keep.version) for _, keep in self.keeps if keep.version is not None
        }
        for _, op in self.ops:
            if isinstance(op, Put) and op.node is not None:
                touched.update((op.node, v) for v in op.replaces)
            elif isinstance(op, Place):
                touched.update((op.node, v) for v in op.carries)
            elif isinstance(op, Drop):
                touched.update((item.node, v) for item in op.items for v in item.versions)
        self.owned: dict[NodeId, list[Version]] = defaultdict(list)
        for name, version in self.live.items():
            owner = version.node
            while version.op.content != DIRECTORY and (copy_id(owner, name), name) in touched:
                owner = copy_id(owner, name)
            self.owned[owner].append(version)

    # --- where nodes are -------------------------------------------------------------------------------------

    def _find_directories(self) -> None:
        """A node is a directory if any put ever made it one. `initial` is where it starts."""
        self.initial: dict[NodeId, Spot] = {}
        self.spots: dict[NodeId, Spot] = {}
        self.placed = False
        puts = [v for v in self.versions.values() if v.op.content == DIRECTORY]
        self.directories = {version.node for version in puts}
        for version in sorted(puts, key=lambda version: version.stamp, reverse=True):  # the first put is set last
            if version.op.node is not None:
                parent = self._virtual(version.op.path[:-1])
                self.initial[version.node] = Spot(None, FIRST, parent, version.op.path[-1])
        for node in self.directories:
            created = self.versions.get(Dot(node))
            if created is not None and created.op.node is None:  # whatever it was made as
                self.initial[node] = self._spot(created.stamp, created.op)

    def _spot(self, stamp: Stamp, op: Put | Place) -> Spot:
        return Spot(stamp.dot, stamp, self._parent(op), op.name)

    def _parent(self, op: Put | Place) -> NodeId:
        return op.parent if op.parent == ROOT or op.parent in self.directories else self._virtual(op.path[:-1])

    def _virtual(self, path: tuple[bytes, ...]) -> NodeId:
        if not path:
            return ROOT
        node = path_id(path)
        if node not in self.initial:
            self.initial[node] = Spot(None, FIRST, self._virtual(path[:-1]), path[-1])
        if self.placed:  # what stands for a path that only a file names never moves
            self.spots.setdefault(node, self.initial[node])
        return node

    def _place_directories(self) -> None:
        """Moves in stamp order, one that would make a cycle skipped (Kleppmann et al., 2022)."""
        for _, op in self.places.values():  # all stand-ins for paths exist before the first move
            self._parent(op)
        self.spots = dict(self.initial)
        self.placed = True
        for stamp, op in self.places.values():
            if op.node in self.directories:
                parent = self._parent(op)
                if not self._below(parent, op.node):
                    self.spots[op.node] = Spot(stamp.dot, stamp, parent, op.name)
                else:  # whoever drops the directory from now on has seen this move lose
                    self.spots[op.node] = self.spots[op.node]._replace(placement=stamp.dot)

    def _below(self, node: NodeId, top: NodeId) -> bool:
        while node != ROOT:
            if node == top:
                return True
            node = self.spots[node].parent
        return False

    def _place_file(self, node: NodeId, versions: list[Version]) -> Spot:
        """The newest place, else the creation, else a keep, else where the shown version was put."""
        base: Spot | None = None
        for stamp, op in self.places.values():
            if op.node == node:
                base = self._spot(stamp, op)
        created = self.versions.get(Dot(node))
        if base is None and created is not None and created.op.node is None:
            base = self._spot(created.stamp, created.op)
        kept: Keep | None = None
        for _, keep in self.keeps:
            if keep.version is None:
                hit = keep.node == node and keep.placed == (base.placement if base else None)
            else:
                hit = base is None and copy_id(keep.node, keep.version) == node
            kept = keep if hit else kept
        if kept is not None:
            parent = kept.parent if kept.parent in self.directories else ROOT
            return Spot(base.placement if base else None, base.stamp if base else FIRST, parent, kept.name)
        if base is not None:
            return base
        main = max(versions, key=lambda version: version.stamp)
        name = main.op.name
        if main.node != node:
            name = derived_name(name, main.stamp.device, node)
        return Spot(None, main.stamp, self._parent(main.op), name)

    # --- what is shown ---------------------------------------------------------------------------------------

    def _ancestors(self, version: Version) -> set[tuple[Content, NodeId, bytes]]:
        """What the versions that `version` came after held, and where."""
        return {place_of(earlier) for earlier in self._before(version).values()}

    def _before(self, version: Version) -> dict[Dot, Version]:
        """The ANCESTORS_MAX newest versions that `version` came after."""
        found: dict[Dot, Version] = {}
        edge = {version.stamp.dot: version}
        while edge and len(found) <= ANCESTORS_MAX:
            newest = max(edge.values(), key=lambda v: v.stamp)
            del edge[newest.stamp.dot]
            found[newest.stamp.dot] = newest
            for name in newest.op.replaces:
                if name in self.versions and name not in found:
                    edge[name] = self.versions[name]
        del found[version.stamp.dot]
        return found

    def _adds_nothing(self, version: Version, other: Version) -> bool:
        """Whether `version` is an older content than `other`'s, put anew by a joiner, or touched, or both."""
        near, past, puts = self._before(version), self._before(other), self._ancestors(other)

        def comes_from_past(each: Version) -> bool:
            if each.stamp.dot in past:
                return True
            if not each.op.replaces:
                return place_of(each) in puts
            return all(
                name in near and near[name].op.content == version.op.content and comes_from_past(near[name])
                for name in each.op.replaces
            )

        return version.op.content != other.op.content and comes_from_past(version)

    def _make_faces(self) -> None:
        attrs = {op.node: op.executable for _, op in self.ops if isinstance(op, Attr)}
        self.faces: dict[NodeId, list[Face]] = defaultdict(list)  # by parent
        faces: list[Face] = []
        for node, versions in self.owned.items():
            if node not in self.directories:
                faces += self._faces_of(node, versions, attrs)
                continue
            for v in versions:
                if v.op.content != DIRECTORY:
                    faces.append(self._copy_face(node, [v], attrs)[0])
        for face in faces:
            self.faces[face.spot.parent].append(face)
        shown = {node for node in self.directories if any(v.op.content == DIRECTORY for v in self.owned[node])}
        shown |= {face.spot.parent for face in faces}
        for bottom in list(shown):
            node = bottom
            while node != ROOT:
                shown.add(node)
                node = self.spots[node].parent
        for node in shown - {ROOT}:
            versions = [v.stamp.dot for v in self.owned.get(node, []) if v.op.content == DIRECTORY]
            spot = self.spots[node]
            face = Face(node, spot, DIRECTORY, tuple(sorted(versions)), False, 0, spot.stamp.device)
            self.faces[spot.parent].append(face)

    def _faces_of(self, node: NodeId, versions: list[Version], attrs: dict[NodeId, bool]) -> list[Face]:
        hidden = [v for v in versions if any(self._adds_nothing(v, w) for w in versions)]
        visible = [v for v in versions if v not in hidden]
        main = max(visible, key=lambda version: version.stamp)
        groups: dict[Content, list[Version]] = defaultdict(list)
        for v in visible:
            groups[v.op.content].append(v)
        same = groups.pop(main.op.content) + hidden
        faces = [self._face(node, main, same, self._place_file(node, visible), attrs)]
        for group in groups.values():
            faces += self._copy_face(node, group, attrs)
        return faces

    def _face(
        self,
        node: NodeId,
        main: Version,
        covered: list[Version],
        spot: Spot,
        attrs: dict[NodeId, bool],
        copy_of: NodeId | None = None,
    ) -> Face:
        created = self.versions.get(Dot(node))
        executable = created.op.executable if created and created.op.node is None else main.op.executable
        return Face(
            node,
            spot,
            main.op.content,
            tuple(sorted(v.stamp.dot for v in covered)),
            main.op.content.kind is Kind.FILE and attrs.get(node, executable),
            main.op.mtime_ns,
            main.stamp.device if spot.stamp == FIRST else spot.stamp.device,
            copy_of,
            all(not v.op.replaces for v in covered),
        )

    def _copy_face(self, node: NodeId, group: list[Version], attrs: dict[NodeId, bool]) -> list[Face]:
        """The copies that hold one content: a node each, under one name, so that they show as one file."""
        rep = max(group, key=lambda version: version.stamp)
        name = derived_name(rep.op.name, rep.stamp.device, copy_id(node, rep.stamp.dot))
        parent = self._parent(rep.op)
        return [
            self._face(copy_id(node, v.stamp.dot), v, [v], Spot(None, v.stamp, parent, name), attrs, node)
            for v in group
        ]

    def _resolve(self, parents: list[NodeId]) -> dict[bytes, Shown]:
        """The children of directories that are shown as one."""
        groups: dict[bytes, list[Face]] = defaultdict(list)
        for parent in parents:
            for face in self.faces[parent]:
                groups[face.spot.name].append(face)
        out: dict[bytes, Shown] = {}
        for name, faces in groups.items():
            taken = set(groups)
            for shown in self._split(faces):
                attempt = 0
                shown.name = name
                while shown.name in taken and shown is not self._first:
                    assert attempt < DERIVED_NAME_TRIES
                    shown.name = derived_name(name, shown.face.device, shown.face.node, attempt)
                    attempt += 1
                taken.add(shown.name)
                out[shown.name] = shown
                if shown.face.content == DIRECTORY:
                    shown.children = self._resolve([face.node for face in shown.faces])
        return out

    def _split(self, faces: list[Face]) -> list[Shown]:
        """Faces of one name: directories merge, equal contents show as one, the first keeps the name."""
        rank = {Kind.DIRECTORY: 0, Kind.FILE: 1, Kind.LINK: 2}
        order = sorted(faces, key=lambda f: (rank[f.content.kind], f.spot.stamp, f.node))
        past = {id(f): set().union(*(self._ancestors(self.versions[v]) for v in f.versions)) for f in order}
        classes: dict[Content, Shown] = {}
        stale: list[tuple[Face, Face]] = []
        for face in order:
            puts = {place_of(self.versions[v]) for v in face.versions}
            newer = [f for f in order if f.content != face.content and puts <= past[id(f)]]
            if face.originals and newer and face.content != DIRECTORY:
                stale.append((face, newer[0]))
            else:
                classes.setdefault(face.content, Shown([], b"")).faces.append(face)
        for face, newer_face in stale:
            classes[newer_face.content].faces.append(face)
        self._first = next(iter(classes.values()))
        return list(classes.values())


def flatten(children: dict[bytes, Shown], prefix: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], Shown]:
    """Return path → what is shown there, parents first."""
    out: dict[tuple[bytes, ...], Shown] = {}
    for name in sorted(children):
        out[(*prefix, name)] = children[name]
        out.update(flatten(children[name].children, (*prefix, name)))
    return out
