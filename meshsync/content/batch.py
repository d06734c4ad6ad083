"""A batch: an entry's operations as bytes, and back.

Invariant: one list of operations has one encoding. Chains stand in the table in the order of their first use, each
used, none twice, the entry's own never; so a batch is canonical, and 0 names the own chain even in the entry whose
hash becomes that chain's id. Spec: docs/spec/content.md 4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from meshsync.codec.canonical import decode, encode
from meshsync.content.batch_wire import (
    DotRef,
    NodeRef,
    WireAttr,
    WireBatch,
    WireContent,
    WireDrop,
    WireDropped,
    WireKeep,
    WireMark,
    WireOp,
    WirePlace,
    WirePut,
)
from meshsync.content.record import Attr, Content, Drop, Dropped, Keep, Mark, Op, Place, Put
from meshsync.content.record_rules import check_op
from meshsync.errors import MalformedMessage
from meshsync.ids import DOT_SIZE_BYTES, ID_SIZE_BYTES, ChainId, ChunkId, Dot, NodeId, dot_parts
from meshsync.limits import BATCH_CHAINS_MAX, COUNTER_MAX, ENTRY_BATCH_BYTES_MAX, ENTRY_OPS_MAX

UNNAMED_CHAIN = ChainId(bytes(ID_SIZE_BYTES))
"""Stands for the own chain in the operations of a chain's first entry, before its hash is known."""

_TAIL = struct.Struct(">QI")
_SEQ_BOUND = 1 << 63
_REF_BYTES_MAX = 54  # a dot reference (20) and the chain that it may add to the table (34)
_OP_BYTES_MAX = 128  # an operation's fixed fields and framing


@dataclass(frozen=True, slots=True)
class Batch:
    """An entry's operations, and its author's clock in nanoseconds since 1970: for display, it decides nothing."""

    time_ns: int
    ops: list[Op]


def encode_batch(ops: Sequence[Op], own_chain: ChainId, time_ns: int = 0) -> bytes:
    """Return the bytes of an entry's operations. For a chain's first entry `own_chain` is UNNAMED_CHAIN.

    `time_ns` is the author's clock; outside [0, 2^63) the nearest value inside is written, because a wrong clock must
    not stop publishing. Raises MalformedMessage if an operation is out of bounds or the batch is longer than
    ENTRY_OPS_MAX operations or ENTRY_BATCH_BYTES_MAX bytes; `size_bound` tells beforehand how many fit.
    """
    if len(ops) > ENTRY_OPS_MAX:
        raise MalformedMessage(f"a batch of {len(ops)} operations where {ENTRY_OPS_MAX} are allowed")
    writer = _Writer(own_chain)
    for op in ops:
        check_op(op)
    wire_ops = tuple(writer.op(op) for op in ops)
    data = encode(WireBatch(min(max(time_ns, 0), COUNTER_MAX), writer.table(), wire_ops))
    if len(data) > ENTRY_BATCH_BYTES_MAX:
        raise MalformedMessage(f"a batch of {len(data)} bytes where {ENTRY_BATCH_BYTES_MAX} are allowed")
    return data


def decode_batch(data: bytes, chain: ChainId, seq: int) -> Batch:
    """Return the operations of entry `seq` (from 1) of `chain`, in order; operation i has the dot (chain, seq, i).

    Raises MalformedMessage unless `data` is the canonical encoding of operations in bounds that name nothing of
    their own chain which is not before them.
    """
    wire = decode(WireBatch, data, ENTRY_BATCH_BYTES_MAX)
    reader = _Reader(wire.chains, chain, seq)
    ops = [reader.op(op, index) for index, op in enumerate(wire.ops)]
    reader.check_all_used()
    for op in ops:
        check_op(op)
    return Batch(wire.time_ns, ops)


def size_bound(op: Op) -> int:
    """Return a number of bytes that `op` at most adds to a batch, to fill batches up to ENTRY_BATCH_BYTES_MAX."""
    size = _OP_BYTES_MAX + 2 * _REF_BYTES_MAX
    if isinstance(op, Put):
        size += len(op.content.target) + _REF_BYTES_MAX * len(op.replaces)
    if isinstance(op, Place):
        size += _REF_BYTES_MAX * len(op.carries)
    if isinstance(op, Put | Place | Mark):
        size += len(op.name)
    if isinstance(op, Put | Place):
        size += sum(len(step) + 3 for step in op.path)
    if isinstance(op, Drop):
        size += sum(32 + _REF_BYTES_MAX * (2 + len(item.versions)) for item in op.items)
    if not isinstance(op, Attr | Mark):
        size += sum(32 + 4 * _REF_BYTES_MAX + len(keep.name) for keep in op.keeps)
    return size


class _Writer:
    """Operations to shapes, interning chains in the order of use."""

    def __init__(self, own: ChainId) -> None:
        self._numbers: dict[bytes, int] = {own: 0}

    def table(self) -> tuple[bytes, ...]:
        chains = tuple(self._numbers)[1:]
        if len(chains) > BATCH_CHAINS_MAX:
            raise MalformedMessage(f"a batch names {len(chains)} chains where {BATCH_CHAINS_MAX} are allowed")
        return chains

    def op(self, op: Op) -> WireOp:
        if isinstance(op, Put):
            return WirePut(
                None if op.node is None else self._node(op.node),
                WireContent(op.content.kind, op.content.size, op.content.root, op.content.depth, op.content.target),
                op.executable,
                op.mtime_ns,
                self._dots(op.replaces),
                self._node(op.parent),
                op.name,
                op.path,
                self._keeps(op.keeps),
            )
        if isinstance(op, Place):
            node, parent = self._node(op.node), self._node(op.parent)
            return WirePlace(node, parent, op.name, self._dots(op.carries), op.path, self._keeps(op.keeps))
        if isinstance(op, Drop):
            return WireDrop(tuple(self._dropped(item) for item in op.items), self._keeps(op.keeps))
        if isinstance(op, Mark):
            return WireMark(op.name, op.present)
        return WireAttr(self._node(op.node), op.executable)

    def _dropped(self, item: Dropped) -> WireDropped:
        return WireDropped(
            self._node(item.node), self._dots(item.versions), self._dot_or_none(item.placement), item.parent
        )

    def _keeps(self, keeps: tuple[Keep, ...]) -> tuple[WireKeep, ...]:
        return tuple(
            WireKeep(
                self._node(keep.node),
                self._dot_or_none(keep.version),
                self._dot_or_none(keep.placed),
                self._node(keep.parent),
                keep.name,
            )
            for keep in keeps
        )

    def _node(self, node: NodeId) -> NodeRef:
        return self._dot(Dot(node)) if len(node) == DOT_SIZE_BYTES else bytes(node)

    def _dots(self, dots: tuple[Dot, ...]) -> tuple[DotRef, ...]:
        return tuple(map(self._dot, dots))

    def _dot_or_none(self, dot: Dot | None) -> DotRef | None:
        return None if dot is None else self._dot(dot)

    def _dot(self, dot: Dot) -> DotRef:
        chain, seq, index = dot_parts(dot)
        if not 1 <= seq < _SEQ_BOUND or index >= ENTRY_OPS_MAX:
            raise MalformedMessage("a dot is out of bounds")
        return self._numbers.setdefault(chain, len(self._numbers)), seq, index


class _Reader:
    """Shapes to operations, checking that the table of chains is as a writer leaves it."""

    def __init__(self, chains: tuple[bytes, ...], own: ChainId, seq: int) -> None:
        self._chains = (bytes(own), *chains)
        if len(set(self._chains)) != len(self._chains) or any(len(chain) != ID_SIZE_BYTES for chain in chains):
            raise MalformedMessage("a batch's table of chains is malformed")
        self._used = 0
        self._here = (seq, 0)

    def check_all_used(self) -> None:
        if self._used != len(self._chains) - 1:
            raise MalformedMessage("a batch's table names a chain that no operation uses")

    def op(self, wire: WireOp, index: int) -> Op:
        self._here = (self._here[0], index)
        if isinstance(wire, WirePut):
            content = wire.content
            return Put(
                None if wire.node is None else self._node(wire.node),
                Content(content.kind, content.size, ChunkId(content.root), content.depth, content.target),
                wire.executable,
                wire.mtime_ns,
                self._dots(wire.replaces),
                self._node(wire.parent),
                wire.name,
                wire.path,
                self._keeps(wire.keeps),
            )
        if isinstance(wire, WirePlace):
            node, parent = self._node(wire.node), self._node(wire.parent)
            return Place(node, parent, wire.name, self._dots(wire.carries), wire.path, self._keeps(wire.keeps))
        if isinstance(wire, WireDrop):
            return Drop(tuple(self._dropped(item) for item in wire.items), self._keeps(wire.keeps))
        if isinstance(wire, WireMark):
            return Mark(wire.name, wire.present)
        return Attr(self._node(wire.node), wire.executable)

    def _dropped(self, wire: WireDropped) -> Dropped:
        return Dropped(self._node(wire.node), self._dots(wire.versions), self._dot_or_none(wire.placement), wire.parent)

    def _keeps(self, wire: tuple[WireKeep, ...]) -> tuple[Keep, ...]:
        return tuple(
            Keep(
                self._node(keep.node),
                self._dot_or_none(keep.version),
                self._dot_or_none(keep.placed),
                self._node(keep.parent),
                keep.name,
            )
            for keep in wire
        )

    def _node(self, ref: NodeRef) -> NodeId:
        if isinstance(ref, tuple):
            return NodeId(self._dot(ref))
        if len(ref) == DOT_SIZE_BYTES:
            raise MalformedMessage("a node named by a dot stands as a reference")
        return NodeId(ref)

    def _dots(self, refs: tuple[DotRef, ...]) -> tuple[Dot, ...]:
        return tuple(map(self._dot, refs))

    def _dot_or_none(self, ref: DotRef | None) -> Dot | None:
        return None if ref is None else self._dot(ref)

    def _dot(self, ref: DotRef) -> Dot:
        number, seq, index = ref
        if not 1 <= seq < _SEQ_BOUND or not 0 <= index < ENTRY_OPS_MAX or not 0 <= number < len(self._chains):
            raise MalformedMessage("a dot is out of bounds")
        if number > self._used:
            if number != self._used + 1:
                raise MalformedMessage("a batch's table of chains is not in the order of use")
            self._used = number
        if number == 0 and (seq, index) >= self._here:
            raise MalformedMessage("an operation names one of its own chain that is not before it")
        return Dot(self._chains[number] + _TAIL.pack(seq, index))
