"""The shapes of a batch's bytes: one Record for each operation, with references to a table of chains.

Invariant: shapes only. What they may say is in record_rules, what they mean in record.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from meshsync.codec.canonical import Record
from meshsync.content.record import Kind
from meshsync.limits import (
    BATCH_CHAINS_MAX,
    COUNTER_MAX,
    DROP_ITEMS_MAX,
    ENTRY_OPS_MAX,
    OP_CARRIES_MAX,
    OP_KEEPS_MAX,
    OP_VERSIONS_MAX,
    PATH_DEPTH_MAX,
)

DotRef: TypeAlias = tuple[int, int, int]
"""(chain: 0 = the entry's own, n = the table's n-th; sequence number; index in the batch)."""

NodeRef: TypeAlias = DotRef | bytes
"""A dot, or 32 bytes of a derived node, or 0 bytes for the root."""

DotRefs: TypeAlias = Annotated[tuple[DotRef, ...], Meta(max_length=OP_VERSIONS_MAX)]
CarriedRefs: TypeAlias = Annotated[tuple[DotRef, ...], Meta(max_length=OP_CARRIES_MAX)]
Path: TypeAlias = Annotated[tuple[bytes, ...], Meta(max_length=PATH_DEPTH_MAX)]


class WireContent(Record, frozen=True):
    kind: Kind
    size: int
    root: bytes
    depth: int
    target: bytes


class WireKeep(Record, frozen=True):
    node: NodeRef
    version: DotRef | None
    placed: DotRef | None
    parent: NodeRef
    name: bytes


Keeps: TypeAlias = Annotated[tuple[WireKeep, ...], Meta(max_length=OP_KEEPS_MAX)]


class WirePut(Record, frozen=True, tag=1):
    node: NodeRef | None
    content: WireContent
    executable: bool
    mtime_ns: int
    replaces: DotRefs
    parent: NodeRef
    name: bytes
    path: Path
    keeps: Keeps


class WirePlace(Record, frozen=True, tag=2):
    node: NodeRef
    parent: NodeRef
    name: bytes
    carries: CarriedRefs
    path: Path
    keeps: Keeps


class WireDropped(Record, frozen=True):
    node: NodeRef
    versions: DotRefs
    placement: DotRef | None
    parent: int


class WireDrop(Record, frozen=True, tag=3):
    items: Annotated[tuple[WireDropped, ...], Meta(max_length=DROP_ITEMS_MAX)]
    keeps: Keeps


class WireAttr(Record, frozen=True, tag=4):
    node: NodeRef
    executable: bool


class WireMark(Record, frozen=True, tag=5):
    name: bytes
    present: bool


WireOp: TypeAlias = WirePut | WirePlace | WireDrop | WireAttr | WireMark


class WireBatch(Record, frozen=True):
    time_ns: Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
    chains: Annotated[tuple[bytes, ...], Meta(max_length=BATCH_CHAINS_MAX)]
    ops: Annotated[tuple[WireOp, ...], Meta(max_length=ENTRY_OPS_MAX)]
