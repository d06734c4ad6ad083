"""An entry as the view takes it, and what it names.

Invariant: an entry enters the view after everything that its operations name (`semantics.md` 1.3), so no state of the
view has to remember what has not come yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshsync.content.record import Attr, Drop, Keep, Op, Place, Put
from meshsync.ids import DOT_SIZE_BYTES, ChainId, DeviceId, Dot, NodeId


@dataclass(frozen=True, slots=True)
class DeliveredEntry:
    """One entry whose whole past is delivered. `seq` from 1; `time` is its Lamport time, from 1.

    Entries of one branch of a device share a chain id; two branches after one entry have two.
    """

    device: DeviceId
    chain: ChainId
    seq: int
    time: int
    ops: tuple[Op, ...]


def named_dots(ops: Iterable[Op]) -> Iterator[Dot]:
    """Yield every dot that the operations name, as version, placement or node, with repetitions."""
    for op in ops:
        if isinstance(op, Put):
            yield from op.replaces
            if op.node is not None:
                yield from _node(op.node)
            yield from _node(op.parent)
            yield from _keeps(op.keeps)
        elif isinstance(op, Place):
            yield from op.carries
            yield from _node(op.node)
            yield from _node(op.parent)
            yield from _keeps(op.keeps)
        elif isinstance(op, Drop):
            for item in op.items:
                yield from item.versions
                yield from _node(item.node)
                if item.placement is not None:
                    yield item.placement
            yield from _keeps(op.keeps)
        elif isinstance(op, Attr):
            yield from _node(op.node)


def _node(node: NodeId) -> Iterator[Dot]:
    if len(node) == DOT_SIZE_BYTES:
        yield Dot(node)


def _keeps(keeps: tuple[Keep, ...]) -> Iterator[Dot]:
    for keep in keeps:
        yield from _node(keep.node)
        yield from _node(keep.parent)
        if keep.version is not None:
            yield keep.version
        if keep.placed is not None:
            yield keep.placed
