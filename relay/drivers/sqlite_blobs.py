"""Which blobs a folder holds, who pays, until when they are leased. Invariant: bytes used = the sum of all charges.

Functions over an open transaction (or a reader); `folder` is the folder's number in the schema.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from meshsync.ids import BlobId, DeviceId
from meshsync.limits import STORE_LOOKUP_ITEMS_MAX
from relay.drivers.base import OverQuota


def sizes(db: sqlite3.Connection, folder: int | None, blobs: Sequence[BlobId]) -> dict[BlobId, int]:
    """Return the sizes in bytes of those of `blobs` that the folder holds."""
    found = {}
    for group in _groups(blobs):
        marks = ",".join("?" * len(group))
        rows = db.execute(f"SELECT id, size FROM blobs WHERE folder = ? AND id IN ({marks})", (folder, *group))
        found.update({BlobId(blob): size for blob, size in rows})
    return found


def add(
    db: sqlite3.Connection, folder: int, device: DeviceId, blobs: Mapping[BlobId, int], leased_until_s: int
) -> OverQuota | None:
    """Hold `blobs`; charge new ones to `device`; extend the lease of all."""
    known = sizes(db, folder, list(blobs))
    new = {blob: size for blob, size in blobs.items() if blob not in known}
    cost = sum(new.values())
    (free,) = db.execute("SELECT allowed - used FROM folders WHERE number = ?", (folder,)).fetchone()
    if cost > free:
        return OverQuota(max(0, free))
    db.executemany(
        "INSERT INTO blobs(folder, id, size, device, leased_until) VALUES(?, ?, ?, ?, ?)",
        [(folder, blob, size, device, leased_until_s) for blob, size in new.items()],
    )
    charge(db, folder, device, cost)
    lease(db, folder, list(known), leased_until_s)
    return None


def lease(db: sqlite3.Connection, folder: int, blobs: Sequence[BlobId], leased_until_s: int) -> None:
    """Extend leases; a later end stays."""
    db.executemany(
        "UPDATE blobs SET leased_until = max(leased_until, ?) WHERE folder = ? AND id = ?",
        [(leased_until_s, folder, blob) for blob in blobs],
    )


def pin(db: sqlite3.Connection, folder: int, blobs: Sequence[BlobId]) -> None:
    """Keep `blobs` without a lease."""
    db.executemany("UPDATE blobs SET pinned = 1 WHERE folder = ? AND id = ?", [(folder, blob) for blob in blobs])


def unpin(db: sqlite3.Connection, folder: int, blobs: Sequence[BlobId]) -> None:
    """Keep `blobs` for as long as they are leased."""
    db.executemany("UPDATE blobs SET pinned = 0 WHERE folder = ? AND id = ?", [(folder, blob) for blob in blobs])


def unleased(db: sqlite3.Connection, folder: int | None, now_s: int, items_max: int) -> list[BlobId]:
    """Return blobs that nothing keeps."""
    rows = db.execute(
        "SELECT id FROM blobs WHERE folder = ? AND pinned = 0 AND leased_until < ? LIMIT ?", (folder, now_s, items_max)
    )
    return [BlobId(row[0]) for row in rows]


def drop(db: sqlite3.Connection, folder: int, blobs: Sequence[BlobId], now_s: int) -> list[BlobId]:
    """Forget those of `blobs` that nothing keeps; return those that no folder holds any more."""
    orphans = []
    for blob in blobs:
        rows = db.execute(
            "DELETE FROM blobs WHERE folder = ? AND id = ? AND pinned = 0 AND leased_until < ? RETURNING device, size",
            (folder, blob, now_s),
        ).fetchall()
        for device, size in rows:
            charge(db, folder, device, -size)
            if not db.execute("SELECT 1 FROM blobs WHERE id = ? LIMIT 1", (blob,)).fetchone():
                orphans.append(blob)
    return orphans


def claimed(db: sqlite3.Connection, blobs: Sequence[BlobId]) -> set[BlobId]:
    """Return those of `blobs` that any folder holds."""
    found: set[BlobId] = set()
    for group in _groups(blobs):
        marks = ",".join("?" * len(group))
        found.update(BlobId(row[0]) for row in db.execute(f"SELECT id FROM blobs WHERE id IN ({marks})", group))
    return found


def charge(db: sqlite3.Connection, folder: int, device: DeviceId, size: int) -> None:
    """Add `size` bytes, which may be negative, to the folder's use and to the device's part of it."""
    db.execute("UPDATE folders SET used = used + ? WHERE number = ?", (size, folder))
    db.execute(
        "INSERT INTO charges VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
        (folder, device, size),
    )


def _groups(blobs: Sequence[BlobId]) -> Iterator[Sequence[BlobId]]:
    for start in range(0, len(blobs), STORE_LOOKUP_ITEMS_MAX):
        yield blobs[start : start + STORE_LOOKUP_ITEMS_MAX]
