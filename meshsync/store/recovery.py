"""Bring packs and catalog together at start. Invariant: what is durable in a pack is found, what is torn is cut.

Packs are read in the order of their numbers and records in the order of their places: the later record wins, so a
catalog that is missing, or older than the packs, ends up as if it had seen every record when it was written.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from meshsync.crypto.hashing import blob_id
from meshsync.errors import IntegrityError
from meshsync.ids import BlobId
from meshsync.store.catalog import Catalog, PackRow, Row
from meshsync.store.files import Files, disk_error
from meshsync.store.pack_format import (
    PACK_HEADER_BYTES,
    Placed,
    RecordKind,
    Scan,
    check_pack_header,
    parse_gone,
    parse_trailer,
    scan,
)
from meshsync.store.pack_writer import OpenPack, close_pack


@dataclass(frozen=True, slots=True)
class _Found:
    """A pack's records, the bodies of its GONE records by offset, its length in bytes, whether it has a trailer."""

    scan: Scan
    gone: dict[int, bytes]
    length: int
    closed: bool


def recover(files: Files, directory: Path, catalog: Catalog) -> tuple[OpenPack | None, int]:
    """Return the pack to continue, if any, and the highest pack number in use.

    Afterwards the catalog names every whole record, and all packs but the returned one are closed. Everything that
    the catalog now names is durable. Raises FormatUnsupported for a pack of another version (nothing is changed),
    StorageFull or ResourceError.
    """
    paths = _packs_on_disk(directory)
    known = catalog.packs()
    last = max([*paths, *known], default=0)
    with catalog.transaction():
        for number in known.keys() - paths.keys():
            catalog.forget_pack(number)
    unclosed: list[OpenPack] = []
    for number, path in sorted(paths.items()):
        row = known.get(number)
        if row is not None and row.closed and path.stat().st_size >= row.length:
            continue
        try:
            pack = _read(files, path, number, row, catalog)
        except OSError as error:
            raise disk_error(error, path) from error
        if pack is not None:
            unclosed.append(pack)
    current = unclosed.pop() if unclosed and unclosed[-1].number == last else None
    _close_all(files, directory, unclosed, catalog)
    return current, last


def _packs_on_disk(directory: Path) -> dict[int, Path]:
    found = {}
    for path in directory.glob("*.pack"):
        try:
            found[int(path.stem, 16)] = path
        except ValueError:
            continue  # not a name that this store gives
    return found


def _close_all(files: Files, directory: Path, packs: Iterable[OpenPack], catalog: Catalog) -> None:
    for pack in packs:
        try:
            length = close_pack(files, pack)
        except OSError as error:
            raise disk_error(error, directory) from error
        with catalog.transaction():
            catalog.set_pack(pack.number, length, closed=True)


def _read(files: Files, path: Path, number: int, row: PackRow | None, catalog: Catalog) -> OpenPack | None:
    """Enter what pack `number` holds into the catalog; return it open if it has no trailer yet."""
    fd = files.open(path)
    keep = False
    try:
        size = os.fstat(fd).st_size
        if size <= PACK_HEADER_BYTES and row is None:  # a crash just after its creation
            files.unlink(path)
            files.sync_directory(path.parent)
            return None
        found = _look(fd, size, number)
        if found.length < size:
            files.truncate(fd, found.length)
        files.sync(fd)  # what a killed process left in the page cache must be durable before it counts
        files.sync_directory(path.parent)
        with catalog.transaction():
            _enter(catalog, number, row.length if row else 0, found)
        keep = not found.closed
        return OpenPack(number, fd, found.length, found.scan.good) if keep else None
    finally:
        if not keep:
            files.close(fd)


def _look(fd: int, size: int, number: int) -> _Found:
    """Read what pack `number`, a file of `size` bytes, holds."""
    if size <= PACK_HEADER_BYTES:
        return _Found(Scan(end=PACK_HEADER_BYTES), {}, PACK_HEADER_BYTES, closed=False)
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
        with contextlib.suppress(IntegrityError):  # the records check themselves; the header tells the version
            check_pack_header(data, number)
        listed = parse_trailer(data)
        found = scan(data, PACK_HEADER_BYTES) if listed is None else Scan(end=size, good=listed)
        bodies = {r.offset: bytes(data[r.offset : r.end]) for r in found.good if r.kind is RecordKind.GONE}
        found.good = [r for r in found.good if r.offset not in bodies or blob_id(bodies[r.offset]) == r.id]
    return _Found(found, bodies, found.end, closed=listed is not None)


def _enter(catalog: Catalog, number: int, known_to: int, found: _Found) -> None:
    """Add to the catalog what lies in pack `number` from offset `known_to` on, and any damage met."""
    catalog.set_aside(catalog.rows_beyond(number, found.length))
    catalog.set_pack(number, found.length, found.closed)
    for record in found.scan.good:
        if record.offset >= known_to and record.kind is RecordKind.GONE:
            catalog.remove(parse_gone(found.gone[record.offset]), number, record.offset)
        elif record.offset >= known_to and record.kind is RecordKind.BLOB:
            _enter_blob(catalog, number, record)
    for record in found.scan.damaged:
        if record.kind is RecordKind.BLOB:
            at = Row(record.id, number, record.offset, record.size)
            catalog.set_aside([at])
            if record.offset >= known_to:
                catalog.note_damage(at)


def _enter_blob(catalog: Catalog, number: int, record: Placed) -> None:
    known = catalog.place(record.id)
    if known is None or (known.pack, known.offset) < (number, record.offset):
        catalog.add([Row(record.id, number, record.offset, record.size)])


def read_gone(path: Path) -> list[BlobId]:
    """Return the ids in all GONE records of the pack at `path`. Raises ResourceError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _look(fd, os.fstat(fd).st_size, int(path.stem, 16))
        finally:
            os.close(fd)
    except OSError as error:
        raise disk_error(error, path) from error
    return [blob for body in found.gone.values() for blob in parse_gone(body)]
