"""Directories as users see them: equal names resolved (`semantics.md` 3.3).

Invariant: a pure function of the tables of faces; in one directory every shown name is different, and every face is
behind exactly one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from meshsync.content.record import Content, Kind
from meshsync.ids import ROOT, Dot, NodeId
from meshsync.limits import DERIVED_NAME_TRIES, LISTING_MERGED_CACHED_MAX
from meshsync.sync.ancestors import ancestor_puts, put_of
from meshsync.sync.names import derived_name
from meshsync.sync.node import DIRECTORY, Face, Node, Version

Path = tuple[bytes, ...]
_RANK = {Kind.DIRECTORY: 0, Kind.FILE: 1, Kind.LINK: 2}


class Shown:
    """One name of a directory. `faces` are the nodes behind it, the one that gives content and exec bit first."""

    __slots__ = ("faces", "name")

    def __init__(self, name: bytes, faces: tuple[Face, ...]) -> None:
        self.name = name
        self.faces = faces

    @property
    def face(self) -> Face:
        return self.faces[0]

    @property
    def content(self) -> Content:
        return self.faces[0].content

    @property
    def kind(self) -> Kind:
        return self.faces[0].content.kind

    @property
    def executable(self) -> bool:
        return self.faces[0].executable

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return tuple(face.node for face in self.faces)


class Listing:
    """Answers about what is shown, from the tables of the nodes."""

    def __init__(
        self, nodes: Mapping[NodeId, Node], copies: Mapping[NodeId, NodeId], versions: Mapping[Dot, Version]
    ) -> None:
        self._nodes = nodes
        self._copies = copies
        self._versions = versions
        self._merged: dict[NodeId, tuple[NodeId, ...]] = {}  # what `merged` found since the tables changed

    def forget(self) -> None:
        """Answer anew from the tables, which change."""
        self._merged.clear()

    def face(self, node: NodeId) -> Face | None:
        """Return the face of a node or of an untouched conflict copy, None if it is not shown."""
        for owner in (node, self._copies.get(node)):
            record = None if owner is None else self._nodes.get(owner)
            for face in record.faces if record is not None else ():
                if face.node == node:
                    return face
        return None

    def merged(self, directory: NodeId) -> tuple[NodeId, ...]:
        """Return all directories that are shown as one with `directory`, it included; () if it is not shown."""
        unknown: list[Face] = []
        node = directory
        while node != ROOT and node not in self._merged:
            face = self.face(node)
            if face is None:
                return ()
            unknown.append(face)
            node = face.parent
        parents = (ROOT,) if node == ROOT else self._merged[node]
        if len(self._merged) + len(unknown) > LISTING_MERGED_CACHED_MAX:
            self._merged.clear()
        for face in reversed(unknown):
            parents = tuple(f.node for f in self.group_of(parents, face.name) if f.content == DIRECTORY)
            self._merged[face.node] = parents
        return parents

    def _chain(self, node: NodeId) -> list[Face] | None:
        """Return the faces from the top of the folder down to `node`, None if it is not shown."""
        chain: list[Face] = []
        while node != ROOT:
            face = self.face(node)
            if face is None:
                return None
            chain.append(face)
            node = face.parent
        chain.reverse()
        return chain

    def group(self, parent: NodeId, name: bytes) -> list[Face]:
        """Return all faces that want `name` in the directory that `parent` is shown as, in order of precedence."""
        return self.group_of(self.merged(parent), name)

    def shown(self, node: NodeId) -> Shown | None:
        """Return what shows `node`, None if nothing does."""
        face = self.face(node)
        if face is None:
            return None
        return self.shown_in(self.merged(face.parent), face)

    def shown_in(self, parents: tuple[NodeId, ...], face: Face) -> Shown:
        """Return what shows `face` in its directory, which `parents` (`merged`) are shown as."""
        for shown in self._resolve(parents, face.name, self.group_of(parents, face.name)):
            if any(each.node == face.node for each in shown.faces):
                return shown
        raise AssertionError("every face is shown")

    def children(self, directory: NodeId) -> dict[bytes, Shown]:
        """Return name → what is shown in the directory that `directory` is shown as."""
        parents = self.merged(directory)
        out: dict[bytes, Shown] = {}
        if len(parents) == 1:
            names: Iterable[bytes] = list(self._nodes[parents[0]].table)
        else:
            names = {name: None for parent in parents for name in self._nodes[parent].table}
        for name in names:
            for shown in self._resolve(parents, name, self.group_of(parents, name)):
                out[shown.name] = shown
        return out

    def group_of(self, parents: tuple[NodeId, ...], name: bytes) -> list[Face]:
        """Return `group` for `parents`, all the directories that are shown as one."""
        faces = [face for each in parents for face in self._nodes[each].table.get(name, ())]
        if len(faces) > 1:
            faces.sort(key=lambda f: (_RANK[f.content.kind], f.stamp, f.node))
        return faces

    def path_of(self, node: NodeId) -> Path | None:
        """Return the path at which `node` is shown, None if it is not."""
        chain = self._chain(node)
        if chain is None:
            return None
        parents: tuple[NodeId, ...] = (ROOT,)
        names: list[bytes] = []
        for face in chain:
            shown = self.shown_in(parents, face)
            names.append(shown.name)
            parents = shown.nodes
        return tuple(names)

    def resolve(self, path: Path) -> Shown | None:
        """Return what is shown at `path`, None for nothing. The root has no face: `path` is not empty."""
        parents: tuple[NodeId, ...] = (ROOT,)
        shown: Shown | None = None
        for name in path:
            shown = self._child(parents, name)
            if shown is None:
                return None
            parents = shown.nodes if shown.content == DIRECTORY else ()
        return shown

    def walk(self, directory: NodeId = ROOT, prefix: Path = ()) -> Iterator[tuple[Path, Shown]]:
        """Yield path and what is shown for the whole tree below `directory`, each directory before its children."""
        pending = [(prefix, directory)]
        while pending:
            at, parent = pending.pop()
            children = self.children(parent)
            for name in sorted(children):
                shown = children[name]
                yield (*at, name), shown
                if shown.content == DIRECTORY:
                    pending.append(((*at, name), shown.face.node))

    def _child(self, parents: tuple[NodeId, ...], name: bytes) -> Shown | None:
        group = self.group_of(parents, name)
        if group:
            return self._resolve(parents, name, group)[0]
        return self.children(parents[0]).get(name) if parents and b" (conflict " in name else None

    def _resolve(self, parents: tuple[NodeId, ...], name: bytes, faces: list[Face]) -> list[Shown]:
        """Directories merge, equal contents show as one, the first keeps the name, the others get derived ones."""
        if len(faces) == 1:
            return [Shown(name, (faces[0],))]
        first, *others = self._classes(faces)
        out = [Shown(name, tuple(first))]
        taken = {name}
        for others_faces in others:
            shown_name = self._derive(parents, name, others_faces[0], taken)
            taken.add(shown_name)
            out.append(Shown(shown_name, tuple(others_faces)))
        return out

    def _derive(self, parents: tuple[NodeId, ...], name: bytes, face: Face, taken: set[bytes]) -> bytes:
        for attempt in range(DERIVED_NAME_TRIES):
            derived = derived_name(name, face.device, face.node, attempt)
            if derived not in taken and not any(derived in self._nodes[parent].table for parent in parents):
                break
        return derived

    def _classes(self, faces: list[Face]) -> list[list[Face]]:
        """Split faces, in order of precedence, into those that show as one. Stale ones go with what came of them."""
        classes: dict[Content, list[Face]] = {}
        stale: list[tuple[Face, Content]] = []
        for face in faces:
            newer = self._newer(face, faces)
            if newer is None:
                classes.setdefault(face.content, []).append(face)
            else:
                stale.append((face, newer))
        for face, content in stale:
            classes[content].append(face)
        return list(classes.values())

    def _newer(self, face: Face, faces: list[Face]) -> Content | None:
        """Return the content that came of `face`'s, if its versions replace nothing and equal ancestors of it."""
        if not face.original or face.content == DIRECTORY:
            return None
        puts = {put_of(self._versions[name]) for name in face.versions}
        for other in faces:
            if other.content != face.content and not other.original:
                past = (ancestor_puts(self._versions[name], self._versions) for name in other.versions)
                if puts <= set().union(*past):
                    return other.content
        return None
