"""Operations that are not yet in an entry, and the entries they are cut into.

Invariant: an operation names only operations before it, and the rows of a batch are true as soon as its entry exists.
Until the entry's place is known, operations of the draft are named by 8-byte pending ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meshsync.content.batch import size_bound
from meshsync.content.record import Attr, Drop, Dropped, Keep, Mark, Op, Place, Put
from meshsync.ids import ID_SIZE_BYTES, ChainId, Dot, NodeId, dot
from meshsync.limits import ENTRY_BATCH_BYTES_MAX, ENTRY_OPS_MAX
from meshsync.sync.disk_rows import SyncedRow

_PENDING_SIZE_BYTES = 8
_HEAD_BYTES = 64
Renamer = Callable[[Dot], Dot]


def pending(index: int) -> Dot:
    """Return the id that stands for the draft's operation `index` until it has a dot."""
    return Dot(index.to_bytes(_PENDING_SIZE_BYTES, "big"))


@dataclass(frozen=True, slots=True)
class Change:
    """One operation, and what becomes true of the synced rows with it: rows to put, nodes to forget."""

    op: Op
    rows: tuple[SyncedRow, ...] = ()
    gone: tuple[NodeId, ...] = ()


@dataclass(slots=True)
class Draft:
    """Changes in order. Empty if nothing is to be published."""

    changes: list[Change] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def next(self) -> Dot:
        """The pending id of the operation that is added next."""
        return pending(len(self.changes))

    def add(self, op: Op, rows: tuple[SyncedRow, ...] = (), gone: tuple[NodeId, ...] = ()) -> None:
        self.changes.append(Change(op, rows, gone))


@dataclass(frozen=True, slots=True)
class EntryDraft:
    """The operations of one entry, and what is true of the synced rows once it is in the log."""

    ops: tuple[Op, ...]
    rows: tuple[SyncedRow, ...]
    gone: tuple[NodeId, ...]

    def named(self, unnamed: ChainId, chain: ChainId) -> EntryDraft:
        """Return the batch of a chain's first entry with `chain`, now known, for its stand-in `unnamed`."""
        name = _renamer(unnamed, chain)
        return EntryDraft(
            tuple(_rename_op(op, name) for op in self.ops),
            tuple(_rename_row(row, name) for row in self.rows),
            self.gone,
        )


class Publisher:
    """Cuts a draft into batches within the bounds of an entry, naming operations as their entries become known."""

    def __init__(self, draft: Draft) -> None:
        self._changes = draft.changes
        self._done = 0
        self._dots: dict[bytes, Dot] = {}

    def next_batch(self, chain: ChainId, seq: int) -> EntryDraft | None:
        """Return what entry `seq` of `chain` holds, None when all is published. Call once for each entry made."""
        start, size = self._done, _HEAD_BYTES
        while self._done < len(self._changes) and self._done - start < ENTRY_OPS_MAX:
            size += size_bound(self._changes[self._done].op)
            if size > ENTRY_BATCH_BYTES_MAX and self._done > start:
                break
            self._dots[pending(self._done)] = dot(chain, seq, self._done - start)
            self._done += 1
        if start == self._done:
            return None
        changes = self._changes[start : self._done]
        name = self._name
        return EntryDraft(
            tuple(_rename_op(change.op, name) for change in changes),
            tuple(_rename_row(row, name) for change in changes for row in change.rows),
            tuple(node for change in changes for node in change.gone),
        )

    def name_chain(self, unnamed: ChainId, chain: ChainId) -> None:
        """The first entry's hash is known: what it made is named by `chain` in the batches that follow."""
        rename = _renamer(unnamed, chain)
        self._dots = {key: rename(name) for key, name in self._dots.items()}

    def _name(self, value: Dot) -> Dot:
        return self._dots.get(value, value)


def _renamer(unnamed: ChainId, chain: ChainId) -> Renamer:
    def rename(value: Dot) -> Dot:
        return Dot(chain + value[ID_SIZE_BYTES:]) if value[:ID_SIZE_BYTES] == unnamed else value

    return rename


def _node(name: Renamer, node: NodeId) -> NodeId:
    return NodeId(name(Dot(node)))


def _optional(name: Renamer, value: Dot | None) -> Dot | None:
    return None if value is None else name(value)


def _keeps(name: Renamer, keeps: tuple[Keep, ...]) -> tuple[Keep, ...]:
    return tuple(
        Keep(
            _node(name, keep.node),
            _optional(name, keep.version),
            _optional(name, keep.placed),
            _node(name, keep.parent),
            keep.name,
        )
        for keep in keeps
    )


def _rename_op(op: Op, name: Renamer) -> Op:
    if isinstance(op, Put):
        return replace(
            op,
            node=None if op.node is None else _node(name, op.node),
            replaces=tuple(map(name, op.replaces)),
            parent=_node(name, op.parent),
            keeps=_keeps(name, op.keeps),
        )
    if isinstance(op, Place):
        return replace(
            op,
            node=_node(name, op.node),
            parent=_node(name, op.parent),
            carries=tuple(map(name, op.carries)),
            keeps=_keeps(name, op.keeps),
        )
    if isinstance(op, Drop):
        items = tuple(
            Dropped(
                _node(name, item.node),
                tuple(map(name, item.versions)),
                _optional(name, item.placement),
                item.parent,
            )
            for item in op.items
        )
        return Drop(items, _keeps(name, op.keeps))
    return op if isinstance(op, Mark) else Attr(_node(name, op.node), op.executable)


def _rename_row(row: SyncedRow, name: Renamer) -> SyncedRow:
    return replace(
        row,
        node=_node(name, row.node),
        versions=tuple(map(name, row.versions)),
        placement=_optional(name, row.placement),
        parent=_node(name, row.parent),
        copy_of=None if row.copy_of is None else _node(name, row.copy_of),
    )
