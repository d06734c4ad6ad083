"""Appends records to the newest pack. Invariant: `append` returns places only after the bytes there are synced.

After a failed write or sync nothing is assumed about the pack: it is cut back to what was durable and left behind, and
the next append begins a new one (a second `fsync` after a failed one may lie, see "Can Applications Recover from fsync
Failures?", Rebello et al., USENIX ATC 2020).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from meshsync.crypto.hashing import Buffer
from meshsync.ids import BlobId
from meshsync.store.files import Files, disk_error
from meshsync.store.pack_format import (
    PACK_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Placed,
    RecordKind,
    pack_header,
    record_header,
    trailer,
)

Item: TypeAlias = tuple[RecordKind, BlobId, Buffer]


@dataclass(slots=True)
class OpenPack:
    """A pack without a trailer: its number, descriptor, durable length in bytes, and records so far."""

    number: int
    fd: int
    length: int
    records: list[Placed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Appended:
    """Records that became durable together in `pack`, the pack's length then, and whether it was closed with them."""

    pack: int
    placed: list[Placed]
    length: int
    closed: bool


def pack_path(directory: Path, number: int) -> Path:
    """Return the path of pack `number`."""
    return directory / f"{number:016x}.pack"


class PackWriter:
    """The one writer of a directory of packs; the caller's lock serialises its calls."""

    def __init__(self, files: Files, directory: Path, pack_bytes: int, current: OpenPack | None, last: int) -> None:
        """Go on with `current`, or with a new pack. `last` is the highest pack number ever used, `pack_bytes` the
        size at which a pack is closed."""
        self._files, self._directory, self._pack_bytes = files, directory, pack_bytes
        self._current, self._last = current, last

    def append(self, items: Sequence[Item]) -> Iterator[Appended]:
        """Write `items` and yield each group once it is durable: one group, unless a pack fills up in between.

        Raises StorageFull or ResourceError; groups yielded before stay durable.
        """
        start = 0
        while start < len(items):
            end = self._group_end(items, start)
            yield self._append_group(items[start:end])
            start = end

    def close(self) -> None:
        """Release the open pack; it stays without a trailer and is continued at the next start."""
        if self._current is not None:
            self._files.close(self._current.fd)
            self._current = None

    def _group_end(self, items: Sequence[Item], start: int) -> int:
        length = self._current.length if self._current else PACK_HEADER_BYTES
        for position in range(start, len(items)):
            length += RECORD_HEADER_BYTES + len(items[position][2])
            if length >= self._pack_bytes:
                return position + 1
        return len(items)

    def _append_group(self, items: Sequence[Item]) -> Appended:
        try:
            pack = self._current or self._begin()
            self._current = pack
            return self._write(pack, items)
        except OSError as error:
            path = pack_path(self._directory, self._last if self._current is None else self._current.number)
            self._abandon()
            raise disk_error(error, path) from error

    def _write(self, pack: OpenPack, items: Sequence[Item]) -> Appended:
        buffers: list[Buffer] = []
        placed, at = [], pack.length
        for kind, record_id, data in items:
            buffers += (record_header(kind, record_id, len(data)), data)
            placed.append(Placed(kind, record_id, at + RECORD_HEADER_BYTES, len(data)))
            at = placed[-1].end
        self._files.write(pack.fd, pack.length, buffers)
        self._files.sync(pack.fd)
        pack.length = at
        pack.records += placed
        full = at >= self._pack_bytes
        if full:
            pack.length = self._finish(pack)
        return Appended(pack.number, placed, pack.length, full)

    def _finish(self, pack: OpenPack) -> int:
        self._current = None
        return close_pack(self._files, pack)

    def _begin(self) -> OpenPack:
        self._last += 1
        path = pack_path(self._directory, self._last)
        pack = OpenPack(self._last, self._files.create(path), PACK_HEADER_BYTES)
        self._current = pack
        self._files.write(pack.fd, 0, [pack_header(pack.number)])
        self._files.sync_directory(self._directory)
        return pack

    def _abandon(self) -> None:
        pack, self._current = self._current, None
        if pack is not None:
            with contextlib.suppress(OSError):
                self._files.truncate(pack.fd, pack.length)
            with contextlib.suppress(OSError):
                self._files.close(pack.fd)


def close_pack(files: Files, pack: OpenPack) -> int:
    """Give `pack` its trailer, durably, close its descriptor, and return its length in bytes. Raises OSError.

    The records are synced already: a trailer vouches for them at recovery, so it must never reach the disk before them.
    """
    try:
        end = trailer(pack.records, pack.length)
        files.write(pack.fd, pack.length, [end])
        files.sync(pack.fd)
    finally:
        files.close(pack.fd)
    return pack.length + len(end)
