"""Sealed blobs in append-only pack files with a catalog over them (`docs/spec/chunk-store.md`).

Invariant: `put` returns after one sync that made all its blobs durable, and the packs alone are enough to answer
every later question; the catalog only makes the answers fast.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from meshsync.crypto.hashing import Buffer, blob_id
from meshsync.errors import BlobCorrupt, ConfigError, NotFound
from meshsync.ids import BlobId, short
from meshsync.limits import PACK_BYTES_TARGET, PACK_LIVE_SHARE_MIN, STORE_COMPACT_BLOBS, STORE_DELETE_ITEMS_MAX
from meshsync.store.base import ScrubReport, Usage
from meshsync.store.catalog import Catalog, PackRow, Row, first_place
from meshsync.store.checked import check_blobs
from meshsync.store.files import Files, SystemFiles, disk_error, make_directory
from meshsync.store.pack_format import RecordKind, gone_body
from meshsync.store.pack_writer import Appended, Item, PackWriter, pack_path
from meshsync.store.recovery import read_gone, recover

_MOVES_MAX = 8  # times that compaction may move a blob between finding its place and reading it


class PackStore:
    """A `BlobStore` in one directory, held by one process at a time."""

    def __init__(self, directory: Path, files: Files | None = None, pack_bytes: int = PACK_BYTES_TARGET) -> None:
        """Open the store in `directory`, creating it if needed, and recover from whatever ended the last use.

        Raises ConfigError if another process holds it, FormatUnsupported for packs of another version, StorageFull
        or ResourceError from the disk.
        """
        self._files: Files = files or SystemFiles()
        self._directory = directory
        make_directory(self._files, directory)
        self._lock_fd = _hold(directory / "lock")
        self._writing = threading.Lock()  # taken before `_reading` where both are needed
        self._reading = threading.Lock()
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._lock_fd)
            self._catalog = Catalog(directory / "catalog.sqlite")
            undo.callback(self._catalog.close)
            current, last = recover(self._files, directory, self._catalog)
            undo.pop_all()
        self._writer = PackWriter(self._files, directory, pack_bytes, current, last)

    def put(self, blobs: Sequence[tuple[BlobId, Buffer]]) -> None:
        check_blobs(blobs)
        distinct = dict(blobs)
        with self._writing:
            with self._reading:
                known = self._catalog.has(distinct)
            self._append([(RecordKind.BLOB, blob, data) for blob, data in distinct.items() if blob not in known])

    def get(self, blob: BlobId) -> bytes:
        for _ in range(_MOVES_MAX):
            row = self._place(blob)
            try:
                return self._read(row)
            except FileNotFoundError:
                continue  # compaction moved it after we looked
            except OSError as error:
                raise disk_error(error, pack_path(self._directory, row.pack)) from error
        self._set_aside_lost(self._place(blob))
        raise NotFound(f"blob {short(blob)} is not stored: its pack is missing")

    def has(self, blobs: Iterable[BlobId]) -> set[BlobId]:
        with self._reading:
            return self._catalog.has(blobs)

    def size(self, blob: BlobId) -> int:
        return self._place(blob).size

    def delete(self, blobs: Sequence[BlobId]) -> None:
        with self._writing:
            for start in range(0, len(blobs), STORE_DELETE_ITEMS_MAX):
                self._delete_group(blobs[start : start + STORE_DELETE_ITEMS_MAX])

    def ids(self, after: bytes = b"") -> Iterator[BlobId]:
        last = after
        while True:
            with self._reading:
                page = self._catalog.ids_after(last)
            if not page:
                return
            yield from page
            last = page[-1]

    def damaged(self) -> list[BlobId]:
        with self._reading:
            return self._catalog.damaged()

    def scrub(self, limit_bytes: int) -> ScrubReport:
        checked, size = 0, 0
        damaged: list[BlobId] = []
        with self._reading:
            place = self._catalog.scrub_cursor()
        while size < limit_bytes:
            with self._reading:
                rows = self._catalog.rows_after(*place)
            if not rows:
                self._set_scrub_cursor(first_place())
                return ScrubReport(checked, size, tuple(damaged), done=True)
            for row in rows:
                if size >= limit_bytes:
                    break
                checked, size, place = checked + 1, size + row.size, (row.pack, row.offset)
                if not self._is_whole(row):
                    damaged.append(row.id)
        self._set_scrub_cursor(place)
        return ScrubReport(checked, size, tuple(damaged), done=False)

    def compact(self, packs_max: int) -> int:
        with self._writing:
            with self._reading:
                packs = self._catalog.packs()
            dead = [p for p in packs.values() if p.closed and p.live_bytes < p.length * PACK_LIVE_SHARE_MIN][:packs_max]
            return sum(pack.length - self._rewrite(pack, is_first=pack.number == min(packs)) for pack in dead)

    def usage(self) -> Usage:
        with self._reading:
            packs = self._catalog.packs().values()
        return Usage(
            blobs=sum(pack.live_blobs for pack in packs),
            live_bytes=sum(pack.live_bytes for pack in packs),
            disk_bytes=sum(pack.length for pack in packs),
        )

    def close(self) -> None:
        with self._writing, self._reading:
            self._writer.close()
            self._catalog.close()
            os.close(self._lock_fd)

    # --- writing; the caller holds `_writing`

    def _append(self, items: Sequence[Item]) -> None:
        for group in self._writer.append(items):
            with self._reading, self._catalog.transaction():
                self._enter(group)

    def _enter(self, group: Appended) -> None:
        self._catalog.set_pack(group.pack, group.length, group.closed)
        rows = [Row(r.id, group.pack, r.offset, r.size) for r in group.placed if r.kind is RecordKind.BLOB]
        self._catalog.add(rows)

    def _delete_group(self, blobs: Sequence[BlobId]) -> None:
        body = gone_body(blobs)
        for group in self._writer.append([(RecordKind.GONE, blob_id(body), body)]):
            with self._reading, self._catalog.transaction():
                self._enter(group)
                self._catalog.remove(blobs, group.pack, group.placed[-1].offset)

    def _rewrite(self, pack: PackRow, is_first: bool) -> int:
        """Copy what is live in `pack`, then remove it; return the bytes copied. Damaged blobs stay in quarantine."""
        with self._reading:
            rows = self._catalog.rows_in(pack.number)
        copied = 0
        for start in range(0, len(rows), STORE_COMPACT_BLOBS):
            group: list[Item] = []
            for row in rows[start : start + STORE_COMPACT_BLOBS]:
                with contextlib.suppress(BlobCorrupt):
                    group.append((RecordKind.BLOB, row.id, self._read(row)))
            self._append(group)
            copied += sum(len(data) for _, _, data in group)
        if not is_first:  # older packs may hold records that this pack's GONE records end
            self._append(self._still_gone(pack))
        path = pack_path(self._directory, pack.number)
        try:
            self._files.unlink(path)
            self._files.sync_directory(self._directory)
        except OSError as error:
            raise disk_error(error, path) from error
        with self._reading, self._catalog.transaction():
            self._catalog.forget_pack(pack.number)
        return copied

    def _still_gone(self, pack: PackRow) -> list[Item]:
        """Return the GONE records of `pack` without the ids that were stored again later."""
        gone = set(read_gone(pack_path(self._directory, pack.number)))
        with self._reading:
            ids = sorted(gone - self._catalog.has(gone))
        bodies = [
            gone_body(ids[start : start + STORE_DELETE_ITEMS_MAX])
            for start in range(0, len(ids), STORE_DELETE_ITEMS_MAX)
        ]
        return [(RecordKind.GONE, blob_id(body), body) for body in bodies]

    # --- reading

    def _place(self, blob: BlobId) -> Row:
        with self._reading:
            row = self._catalog.place(blob)
            damaged = row is None and self._catalog.is_damaged(blob)
        if row is not None:
            return row
        if damaged:
            raise BlobCorrupt(f"blob {short(blob)} is damaged and in quarantine")
        raise NotFound(f"blob {short(blob)} is not stored")

    def _read(self, row: Row) -> bytes:
        """Return the verified body at `row`. Raises OSError, or BlobCorrupt once it is in quarantine."""
        fd = os.open(pack_path(self._directory, row.pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, row.size, row.offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the medium lost it: damage like any other
        finally:
            os.close(fd)
        if blob_id(data) != row.id:
            with self._reading, self._catalog.transaction():
                self._catalog.set_aside([row])
            raise BlobCorrupt(f"blob {short(row.id)} is damaged and in quarantine")
        return data

    def _is_whole(self, row: Row) -> bool:
        try:
            self._read(row)
        except BlobCorrupt:
            return False
        except FileNotFoundError:
            return not self._set_aside_lost(row)  # compaction moved and verified it after we looked, or it is lost
        except OSError as error:
            raise disk_error(error, pack_path(self._directory, row.pack)) from error
        return True

    def _set_aside_lost(self, row: Row) -> bool:
        """Take what is in a missing pack for damaged, unless compaction moved it meanwhile; return whether it is."""
        with self._reading, self._catalog.transaction():
            is_lost = self._catalog.place(row.id) == row
            if is_lost:
                self._catalog.set_aside([row])
        return is_lost

    def _set_scrub_cursor(self, place: tuple[int, int]) -> None:
        with self._reading:
            self._catalog.set_scrub_cursor(*place)


def _hold(path: Path) -> int:
    """Lock `path` for this process and return the descriptor that holds the lock. Raises ConfigError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ConfigError(
            "another process uses this store", path=str(path.parent), next_step="Stop it first"
        ) from error
    return fd
