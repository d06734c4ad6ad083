"""From a node to its faces: which version shows, which are conflict copies, under which names.

Invariant: a pure function of the node and of what it asks its `Context`; every live version of the node is covered by
exactly one face. Rules: `semantics.md` 3.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from meshsync.content.record import Content, Kind
from meshsync.ids import Dot, NodeId
from meshsync.sync.ancestors import adds_nothing, past_of
from meshsync.sync.names import copy_id, derived_name
from meshsync.sync.node import DIRECTORY, Face, Node, Version
from meshsync.sync.stamp import FIRST, Stamp


class Context(Protocol):
    """What the faces of a node depend on beside the node."""

    @property
    def versions(self) -> Mapping[Dot, Version]:
        """All versions that the view remembers."""

    def parent_of(self, node: NodeId, parent: NodeId, path: tuple[bytes, ...]) -> NodeId:
        """Return `parent` if it is a known directory, else the stand-in for the directory of `path`."""

    def attr_of(self, node: NodeId) -> bool | None:
        """Return the exec bit that the last attribute operation gave the node, None for none."""


def build_faces(node: Node, context: Context) -> tuple[Face, ...]:
    """Return what `node` shows: nothing, one face, or its face and those of its conflict copies."""
    faces: list[Face] = []
    if node.tree is not None and (node.table or any(v.content == DIRECTORY for v in node.live)):
        faces.append(_directory_face(node))
    files = [version for version in node.live if version.content != DIRECTORY]
    if files and node.directory:
        for version in files:
            faces += _copies(node, [version], context)
    elif files:
        faces += _file_faces(node, files, context)
    return tuple(faces)


def _directory_face(node: Node) -> Face:
    tree = node.tree
    assert tree is not None
    live = [version for version in node.live if version.content == DIRECTORY]
    # A later move that was skipped, for it would have made a cycle, is known all the same: whoever removes the
    # directory from now on has seen what became of it.
    latest = tree.stamp if node.placed is None else max(tree.stamp, node.placed.stamp)
    return Face(
        node.id,
        tree.parent,
        tree.name,
        None if latest == FIRST else latest.dot,
        tree.stamp,
        DIRECTORY,
        max(live, key=_by_stamp).dot if live else None,
        tuple(sorted(version.dot for version in live)),
        False,
        max((version.mtime_ns for version in live), default=0),
        tree.stamp.device,
        None,
        not any(version.replaces for version in live),
    )


def _file_faces(node: Node, files: list[Version], context: Context) -> list[Face]:
    if len(files) == 1:
        return [_own_face(node, files[0], files, context)]
    stale = _stale(files, context)
    visible = [version for version in files if version not in stale]
    main = max(visible, key=_by_stamp)
    groups: dict[Content, list[Version]] = {}
    for version in visible:
        groups.setdefault(version.content, []).append(version)
    faces = [_own_face(node, main, groups.pop(main.content) + stale, context)]
    for group in groups.values():
        faces += _copies(node, group, context)
    return faces


def _stale(files: list[Version], context: Context) -> list[Version]:
    """Versions that add nothing to another: a joiner's older copy, a touch of what the other one replaced."""
    known = context.versions
    doubtful = [version for version in files if _says_little(version, known)]
    if not doubtful:
        return []
    # What a version came after follows from what it replaces: a thousand touches of one version have one past.
    replacing = {(version.content, version.replaces): version for version in files if version.replaces}
    pasts = [past_of(version, known) for version in replacing.values()]
    return [version for version in doubtful if any(adds_nothing(version, past, known) for past in pasts)]


def covered_by(node: Node, version: Dot, known: Mapping[Dot, Version]) -> tuple[Dot, ...]:
    """Return the live versions of `node` that add nothing to `version` and would add something without it, in order.

    Whoever acts on a conflict copy acts on what it covers: else that would show again, as a copy that nobody wants.
    """
    files = [each for each in node.live if each.content != DIRECTORY]
    doubtful = [each for each in files if each.dot != version and _says_little(each, known)]
    mine = known.get(version)
    if not doubtful or mine is None:
        return ()
    others = [past_of(each, known) for each in files if each.replaces and each.dot != version]
    past = past_of(mine, known)
    return tuple(
        sorted(
            each.dot
            for each in doubtful
            if adds_nothing(each, past, known) and not any(adds_nothing(each, other, known) for other in others)
        )
    )


def _says_little(version: Version, known: Mapping[Dot, Version]) -> bool:
    """Tell whether the version brings no content of its own to what it replaces, as far as that is known."""
    replaced = (known.get(name) for name in version.replaces)
    return all(earlier is not None and earlier.content == version.content for earlier in replaced)


def _own_face(node: Node, main: Version, covered: Sequence[Version], context: Context) -> Face:
    """The face of the version that shows at the node's own place."""
    base, kept = node.base, node.kept
    if kept is not None:
        stamp = base.stamp if base is not None else FIRST
        parent, name = context.parent_of(node.id, kept.parent, ()), kept.name
    elif base is not None:
        stamp, name = base.stamp, base.name
        parent = context.parent_of(node.id, base.parent, base.path[:-1])
    else:
        stamp, name = main.stamp, main.name
        parent = context.parent_of(node.id, main.parent, main.path[:-1])
        if main.node != node.id:
            name = derived_name(name, main.stamp.device, node.id)
    placement = base.stamp.dot if base is not None else None
    created = node.origin_executable
    executable = main.executable if created is None else created
    return _face(node.id, main, covered, parent, name, placement, stamp, executable, None, context)


def _copies(node: Node, group: list[Version], context: Context) -> list[Face]:
    """The conflict copies that hold one content: a node each, under one name, so that they show as one file."""
    first = max(group, key=_by_stamp)
    name = derived_name(first.name, first.stamp.device, copy_id(node.id, first.dot))
    faces = []
    for version in group:
        copy = copy_id(node.id, version.dot)
        parent = context.parent_of(node.id, first.parent, first.path[:-1])
        faces.append(
            _face(
                copy,
                version,
                [version],
                parent,
                name,
                None,
                version.stamp,
                version.executable,
                node.id,
                context,
            )
        )
    return faces


def _face(
    node: NodeId,
    main: Version,
    covered: Sequence[Version],
    parent: NodeId,
    name: bytes,
    placement: Dot | None,
    stamp: Stamp,
    executable: bool,
    copy_of: NodeId | None,
    context: Context,
) -> Face:
    attr = context.attr_of(node)
    return Face(
        node,
        parent,
        name,
        placement,
        stamp,
        main.content,
        main.dot,
        tuple(sorted(version.dot for version in covered)),
        main.content.kind is Kind.FILE and (executable if attr is None else attr),
        main.mtime_ns,
        main.stamp.device if stamp == FIRST else stamp.device,
        copy_of,
        not any(version.replaces for version in covered),
    )


def _by_stamp(version: Version) -> Stamp:
    return version.stamp
