"""What apply does to the disk, in order.

Invariant: each action names what the scan saw where it acts, so that the shell can check before it replaces, and the
synced rows that are true once it is done, with the nodes whose rows are `gone`. Paths are as they are when the action's
turn comes. The stat in a row is the last one known: the shell puts the one that it sees afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshsync.content.record import Content, Kind
from meshsync.ids import Dot, NodeId
from meshsync.sync.disk_rows import Path, Stat, SyncedRow


@dataclass(frozen=True, slots=True)
class Parked:
    """A place in the control directory, out of the tree, that a plan fills and empties. `number` from 0.

    What lies there with no synced row under `parked_id(number)` is left over from a crash and is discarded first.
    """

    number: int


@dataclass(frozen=True, slots=True)
class InParked:
    """A path below a parked directory."""

    parked: Parked
    below: Path


Place: TypeAlias = Path | Parked | InParked


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make an empty directory where nothing is."""

    node: NodeId
    target: Place
    rows: tuple[SyncedRow, ...]


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Stage the content and put it at `target`, in place of what is there. `expected` None: nothing is there.

    `lies_at`: where on this disk the same content lies until the plan puts something else there. It may lie nowhere
    else in the world: that place must not be touched before the content is staged.
    """

    node: NodeId
    target: Place
    content: Content
    version: Dot
    executable: bool
    mtime_ns: int
    expected: Stat | None
    rows: tuple[SyncedRow, ...]
    gone: tuple[NodeId, ...] = ()
    lies_at: Place | None = None


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Put a link with `content.target` at `target`, in place of what is there. `expected` None: nothing is there."""

    node: NodeId
    target: Place
    content: Content
    version: Dot
    mtime_ns: int
    expected: Stat | None
    rows: tuple[SyncedRow, ...]
    gone: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """Rename `source` to `target`; both exchanged if `exchange`. Else what is at `target` is replaced.

    `expected` is the object at `source`, `replaced` the one at `target` (None: nothing is there).
    """

    node: NodeId
    source: Place
    target: Place
    exchange: bool
    expected: Stat | None
    replaced: Stat | None
    rows: tuple[SyncedRow, ...]
    gone: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, a link, or an empty directory. A directory that is not empty stays.

    `rows` are of nodes that are shown as one with something else on disk, and lie there from now on.
    """

    node: NodeId
    target: Place
    kind: Kind
    expected: Stat | None
    rows: tuple[SyncedRow, ...]
    gone: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class SetAttr:
    """Set the exec bit of the file at `target`, and its mtime (ns since 1970; None leaves it)."""

    node: NodeId
    target: Place
    executable: bool
    mtime_ns: int | None
    expected: Stat | None
    rows: tuple[SyncedRow, ...]


Action: TypeAlias = MakeDirectory | WriteFile | MakeLink | Move | Remove | SetAttr


def gone_by(action: Action) -> tuple[NodeId, ...]:
    """Return the nodes of which nothing lies on disk once `action` is done."""
    return action.gone if isinstance(action, WriteFile | MakeLink | Move | Remove) else ()


def nodes_of(action: Action) -> set[NodeId]:
    """Return all nodes that `action` is for: what it displaces for a while is not done either until it is done."""
    return {action.node, *(row.node for row in action.rows), *gone_by(action)}
