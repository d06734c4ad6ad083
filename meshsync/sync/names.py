"""Ids and names that follow from other ids: conflict copies, second files of one name, directories of a bare path.

Invariant: every device derives the same bytes, because only values that are in the log go in.
"""

from __future__ import annotations

from meshsync.crypto.hashing import digest
from meshsync.ids import DeviceId, Dot, NodeId
from meshsync.limits import DERIVED_EXTENSION_BYTES_MAX, DERIVED_NAME_TRIES, NAME_BYTES_MAX

_DIGITS_FIRST = 8
_DIGITS_CUT = 32


def copy_id(node: NodeId, version: Dot) -> NodeId:
    """Return H(node, version), 32 bytes: the node of the conflict copy that holds `version` of `node`."""
    return NodeId(digest("copy", node + version))


def path_id(path: tuple[bytes, ...]) -> NodeId:
    """Return the 32-byte id of the directory that stands for `path` when nothing else is known to be there."""
    return NodeId(digest("path", b"/".join(path)))


def derived_name(name: bytes, device: DeviceId, node: NodeId, attempt: int = 0) -> bytes:
    """Return `name` marked as the conflict copy `node` by `device`, at most NAME_BYTES_MAX bytes.

    The mark goes before the extension and carries the device's first four hex digits and eight digits of `node`, twice
    as many for each `attempt` (0 to DERIVED_NAME_TRIES - 1). A name too long for that is cut between UTF-8 characters
    and carries at least 32 digits, because names that were different may be equal once cut.
    """
    assert attempt < DERIVED_NAME_TRIES
    stem, extension = _split(name)
    mark = _mark(device, node, _DIGITS_FIRST << attempt)
    if len(name) + len(mark) > NAME_BYTES_MAX:
        mark = _mark(device, node, max(_DIGITS_CUT, _DIGITS_FIRST << attempt))
    return _cut(stem, NAME_BYTES_MAX - len(mark) - len(extension)) + mark + extension


def marked_name(name: bytes, mark: bytes) -> bytes:
    """Return `name` with `mark` before its extension, cut between UTF-8 characters to at most NAME_BYTES_MAX bytes."""
    stem, extension = _split(name)
    return _cut(stem, NAME_BYTES_MAX - len(mark) - len(extension)) + mark + extension


def _mark(device: DeviceId, node: NodeId, digits: int) -> bytes:
    return f" (conflict {device[:2].hex()} {digest('derived-name', node).hex()[:digits]})".encode()


def _split(name: bytes) -> tuple[bytes, bytes]:
    at = name.rfind(b".")
    if at <= 0 or len(name) - at > DERIVED_EXTENSION_BYTES_MAX:
        return name, b""
    return name[:at], name[at:]


def _cut(stem: bytes, size: int) -> bytes:
    if len(stem) <= size:
        return stem
    while size > 0 and stem[size] & 0xC0 == 0x80:  # inside a UTF-8 character
        size -= 1
    return stem[:size]
