"""What an operation may say: the bounds of its fields.

Invariant: an operation is checked before its bytes are written and after they are read, by the same code, so every
operation in a log is one that this device could have written itself. Spec: docs/spec/content.md 4.
"""

from __future__ import annotations

from meshsync.content.manifest import root_node
from meshsync.content.record import Attr, Content, Drop, Keep, Kind, Mark, Op, Place, Put
from meshsync.errors import MalformedMessage, ManifestMismatch
from meshsync.ids import DOT_SIZE_BYTES, ID_SIZE_BYTES, ROOT, NodeId
from meshsync.limits import (
    DROP_ITEMS_MAX,
    LINK_TARGET_BYTES_MAX,
    NAME_BYTES_MAX,
    OP_CARRIES_MAX,
    OP_KEEPS_MAX,
    OP_VERSIONS_MAX,
    PATH_BYTES_MAX,
    PATH_DEPTH_MAX,
)

_NOT_NAMES = (b".", b"..")
_MTIME_BOUND_NS = 1 << 63


def check_op(op: Op) -> None:
    """Return if `op` is in bounds; raise MalformedMessage otherwise."""
    if isinstance(op, Put):
        if op.node is not None:
            check_node(op.node)
        check_content(op.content)
        if not -_MTIME_BOUND_NS <= op.mtime_ns < _MTIME_BOUND_NS:
            raise MalformedMessage("an mtime is out of bounds")
        _check_count("replaced versions", len(op.replaces), OP_VERSIONS_MAX)
        _check_place(op.parent, op.name, op.path)
        _check_keeps(op.keeps)
    elif isinstance(op, Place):
        check_node(op.node)
        _check_count("carried versions", len(op.carries), OP_CARRIES_MAX)
        _check_place(op.parent, op.name, op.path)
        _check_keeps(op.keeps)
    elif isinstance(op, Drop):
        _check_drop(op)
    elif isinstance(op, Mark):
        check_name(op.name)
    else:
        assert isinstance(op, Attr)
        check_node(op.node)


def check_content(content: Content) -> None:
    """Raise MalformedMessage unless the fields of `content` fit its kind and each other."""
    if content.kind is Kind.FILE:
        try:
            root_node(content)
        except ManifestMismatch as error:
            raise MalformedMessage(error.what) from error
    elif content.size or content.root or content.depth:
        raise MalformedMessage(f"a {content.kind.name.lower()} has no manifest")
    if content.kind is not Kind.LINK:
        if content.target:
            raise MalformedMessage(f"a {content.kind.name.lower()} has no target")
    elif not 1 <= len(content.target) <= LINK_TARGET_BYTES_MAX or b"\0" in content.target:
        raise MalformedMessage(f"a link target of {len(content.target)} bytes, or with a zero byte")


def check_name(name: bytes) -> None:
    """Raise MalformedMessage unless `name` can be one name on a POSIX file system: 1 to 255 bytes."""
    if not 1 <= len(name) <= NAME_BYTES_MAX or b"/" in name or b"\0" in name or name in _NOT_NAMES:
        raise MalformedMessage(f"not a file name: {name[:64]!r} ({len(name)} bytes)")


def check_node(node: NodeId) -> None:
    """Raise MalformedMessage unless `node` is a dot or a derived id; the root is no one's to change."""
    if len(node) not in (DOT_SIZE_BYTES, ID_SIZE_BYTES):
        raise MalformedMessage(f"a node id has {DOT_SIZE_BYTES} or {ID_SIZE_BYTES} bytes, not {len(node)}")


def _check_place(parent: NodeId, name: bytes, path: tuple[bytes, ...]) -> None:
    if parent != ROOT:
        check_node(parent)
    check_name(name)
    if not 1 <= len(path) <= PATH_DEPTH_MAX or sum(map(len, path)) + len(path) > PATH_BYTES_MAX:
        raise MalformedMessage(f"a path of {len(path)} names is out of bounds")
    for step in path:
        check_name(step)


def _check_keeps(keeps: tuple[Keep, ...]) -> None:
    _check_count("kept neighbours", len(keeps), OP_KEEPS_MAX)
    for keep in keeps:
        check_node(keep.node)
        if keep.parent != ROOT:
            check_node(keep.parent)
        check_name(keep.name)


def _check_drop(drop: Drop) -> None:
    if not drop.items:
        raise MalformedMessage("a drop names at least one node")
    _check_count("dropped nodes", len(drop.items), DROP_ITEMS_MAX)
    for at, item in enumerate(drop.items):
        check_node(item.node)
        _check_count("dropped versions", len(item.versions), OP_VERSIONS_MAX)
        if not -1 <= item.parent < at:
            raise MalformedMessage("a dropped node comes after its parent")
    _check_keeps(drop.keeps)


def _check_count(what: str, count: int, count_max: int) -> None:
    if count > count_max:
        raise MalformedMessage(f"{count} {what} where {count_max} are allowed")
