"""What the log would say if some of its entries had never been made: everybody else's work on its own.

Invariant: pure; nobody else's operation is lost. Whoever edited on top of what is undone is taken to have edited what
lay there before it, so that edit stays and no conflict with the past comes up. A removal of what is undone removes
nothing: whoever removed it saw another content than the one that comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from meshsync.content.record import Drop, Op, Place, Put
from meshsync.ids import ChainId, Dot, NodeId, dot


@dataclass(frozen=True, slots=True)
class Built:
    """Somebody else's operation `name` on `node` that came on top of something undone; `removed` it, or changed it."""

    name: Dot
    node: NodeId
    removed: bool


class Without:
    """Takes the entries in causal order, those to undo and the others."""

    def __init__(self) -> None:
        self.built: list[Built] = []
        self._before: dict[Dot, tuple[Dot, ...]] = {}  # an undone version → what lay there before

    def undo(self, chain: ChainId, seq: int, ops: Sequence[Op]) -> None:
        """Take the next entry, which is to count for nothing."""
        for index, op in enumerate(ops):
            if isinstance(op, Put):
                self._before[dot(chain, seq, index)] = self._kept(op.replaces)

    def keep(self, chain: ChainId, seq: int, ops: Sequence[Op]) -> tuple[Op, ...]:
        """Take the next entry, which stays; return its operations as they count."""
        self.built += self._on_top(chain, seq, ops)
        return tuple(self._without(op) for op in ops)

    def _without(self, op: Op) -> Op:
        if isinstance(op, Put):
            return replace(op, replaces=self._kept(op.replaces))
        if isinstance(op, Place):
            return replace(op, carries=self._kept(op.carries))
        return op

    def _kept(self, names: Sequence[Dot]) -> tuple[Dot, ...]:
        """Return what was there but for what is undone, in order, each once."""
        found: dict[Dot, None] = {}
        for name in names:
            found.update(dict.fromkeys(self._before.get(name, (name,))))
        return tuple(found)

    def _on_top(self, chain: ChainId, seq: int, ops: Sequence[Op]) -> Iterator[Built]:
        for index, op in enumerate(ops):
            name = dot(chain, seq, index)
            if isinstance(op, Put) and not self._before.keys().isdisjoint(op.replaces):
                yield Built(name, NodeId(name) if op.node is None else op.node, removed=False)
            elif isinstance(op, Drop):
                for item in op.items:
                    if not self._before.keys().isdisjoint(item.versions):
                        yield Built(name, item.node, removed=True)
