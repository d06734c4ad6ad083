"""What the view keeps of one node: its versions, placements, drops, and the faces it shows.

Invariant: these are values and links only; all rules that change them stand in `view.py` and `placement.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from meshsync.content.record import Content, Kind
from meshsync.ids import ChainId, DeviceId, Dot, NodeId
from meshsync.sync.stamp import Stamp

DIRECTORY = Content(Kind.DIRECTORY)


class Placement(NamedTuple):
    """A node put somewhere by a put or place. `path` is kept only where `parent` was unknown on arrival."""

    stamp: Stamp
    parent: NodeId
    name: bytes
    path: tuple[bytes, ...]
    carries: frozenset[Dot]


class Kept(NamedTuple):
    """The name that a keep gave to the node as placed by `placed` (None: by no operation)."""

    stamp: Stamp
    placed: Dot | None
    parent: NodeId
    name: bytes


class Claim(NamedTuple):
    """One item of a drop: what was removed lay on `node` as placed no later than `since`; `above` is its directory."""

    node: NodeId
    since: Stamp
    above: Claim | None


class Version:
    """One put. `node` is where it was put, `owner` the node it belongs to now (`semantics.md` 3.2)."""

    __slots__ = (
        "claims",
        "content",
        "ended",
        "executable",
        "live",
        "mtime_ns",
        "name",
        "node",
        "owner",
        "parent",
        "path",
        "replaced",
        "replaces",
        "stamp",
        "touches",
    )

    def __init__(
        self,
        stamp: Stamp,
        node: NodeId,
        content: Content,
        executable: bool,
        mtime_ns: int,
        replaces: tuple[Dot, ...],
        parent: NodeId,
        name: bytes,
        path: tuple[bytes, ...],
    ) -> None:
        self.stamp = stamp
        self.node = node
        self.owner = node
        self.content = content
        self.executable = executable
        self.mtime_ns = mtime_ns
        self.replaces = replaces
        self.parent = parent
        self.name = name
        self.path = path
        self.replaced = False
        self.live = True
        self.claims: tuple[Claim, ...] = ()
        self.ended: Stamp | None = None  # the earliest put or drop that named it; None after a checkpoint
        self.touches: tuple[NodeId, ...] = ()  # copies that operations made of it

    @property
    def dot(self) -> Dot:
        return self.stamp.dot

    def end(self, stamp: Stamp) -> None:
        """Note that the operation of `stamp` named this version as replaced or removed."""
        if self.ended is None or stamp < self.ended:
            self.ended = stamp


class Face:
    """A node as it is placed in a directory, before equal names are resolved. Never changed once made.

    `versions` are all that the shown content stands for: equal ones, and stale ones that it covers. `placement` is the
    operation that placed the node, None for none, and `stamp` its stamp (of the version shown, if none). `device` is
    the author named in a derived name. `copy_of` is the node of which this is a conflict copy that nobody touched.
    `original` tells that no version replaced another.
    """

    __slots__ = (
        "content",
        "copy_of",
        "device",
        "executable",
        "mtime_ns",
        "name",
        "node",
        "original",
        "parent",
        "placement",
        "stamp",
        "version",
        "versions",
    )

    def __init__(
        self,
        node: NodeId,
        parent: NodeId,
        name: bytes,
        placement: Dot | None,
        stamp: Stamp,
        content: Content,
        version: Dot | None,
        versions: tuple[Dot, ...],
        executable: bool,
        mtime_ns: int,
        device: DeviceId,
        copy_of: NodeId | None,
        original: bool,
    ) -> None:
        self.node = node
        self.parent = parent
        self.name = name
        self.placement = placement
        self.stamp = stamp
        self.content = content
        self.version = version
        self.versions = versions
        self.executable = executable
        self.mtime_ns = mtime_ns
        self.device = device
        self.copy_of = copy_of
        self.original = original

    def same(self, other: Face) -> bool:
        """Tell whether both show the same, so that nothing has changed."""
        return all(getattr(self, name) == getattr(other, name) for name in Face.__slots__)


class Node:
    """One node. `tree` is set for directories: where the log of moves puts it. `table` holds faces by their name."""

    __slots__ = (
        "attr",
        "directory",
        "faces",
        "id",
        "kept",
        "live",
        "moves",
        "origin",
        "origin_executable",
        "placed",
        "puts",
        "table",
        "tree",
    )

    def __init__(self, node: NodeId) -> None:
        self.id = node
        self.directory = False  # some put made it one
        self.origin: Placement | None = None  # its creation; of a directory without one, its first put
        self.origin_executable: bool | None = None  # None without a creation
        self.placed: Placement | None = None  # the latest place
        self.moves: tuple[Placement, ...] = ()  # all places, in order of arrival
        self.kept: Kept | None = None
        self.attr: tuple[Stamp, bool] | None = None
        self.puts: tuple[Version, ...] = ()  # all versions put here that the view remembers
        self.live: tuple[Version, ...] = ()  # those that are live and belong here, in order of arrival
        self.tree: Placement | None = None
        self.table: dict[bytes, tuple[Face, ...]] = {}
        self.faces: tuple[Face, ...] = ()

    @property
    def base(self) -> Placement | None:
        """The placement that an operation made, apart from keeps; None for an untouched copy or a bare path."""
        return self.placed or (self.origin if self.origin_executable is not None else None)


Vector = dict[ChainId, int]
