"""Carries out what owners retired, once it has waited. The wait is counted in seconds that the relay ran: no clock that
is set wrong, here or on a device, shortens it.

Invariant: the log says what was let go of in the same transaction that lets go of it; blobs leave the store only after
that, by `upkeep.collect`, which looks again whether anything needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from meshsync.ids import BlobId, FolderId, RecordId
from meshsync.limits import (
    RELAY_APPEND_TRIES_MAX,
    RETIRE_RECORDS_MAX,
    STORED_BLOBS_MAX,
)
from meshsync.metalog.record_log import LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.retire import make_collected
from relay.core import RelayCore
from relay.drivers.base import LetGo, Row
from relay.ledger import KEEPERS, KINDS, Ledger, listed, read_ledger, rows_of
from relay.sequencer import FolderView


async def carry_out(core: RelayCore) -> int:
    """Carry out the retire records of all folders that have waited; return how many blobs nothing keeps any more.

    Raises what storage raises; what was not carried out is next time.
    """
    return sum([await _carry_out(core, folder) for folder in await core.log.folders()])


async def _carry_out(core: RelayCore, folder: FolderId) -> int:
    for _ in range(RELAY_APPEND_TRIES_MAX):
        due = [retire.id for retire in await core.log.retires(folder) if not retire.left_s]
        if not due:
            return 0
        ledger = await read_ledger(core.log, folder)
        dying = ledger.dying(due)
        freed = await _freed(core, folder, ledger, dying)
        async with core.views.turn(folder):
            view = await core.views.get(folder)
            assert view is not None, "a folder that has retire records"
            if await _has_changed(core, view, ledger, due, dying, freed):
                continue
            rows, view = _record(core, view, due, sorted(dying), sorted(freed))
            let_go = LetGo(tuple(due), tuple(dying), tuple(freed))
            if await core.log.append(folder, rows[0].index - 1, rows, (), let_go) is None:
                core.views.remember(view)
                core.grew(folder, view.index)
                return len(freed)
    return 0


async def _freed(core: RelayCore, folder: FolderId, ledger: Ledger, dying: Collection[RecordId]) -> set[BlobId]:
    """Return the blobs that only dead and `dying` records list. Goes through the log twice, and holds only these."""
    found: set[BlobId] = set()
    if not dying:
        return found
    async for row in rows_of(core.log, folder, 0, [RecordKind.STORED]):
        if row.id in dying:
            found.update(listed(row, folder))
    async for row in rows_of(core.log, folder, 0, KEEPERS):
        if row.id not in dying and row.id not in ledger.dead:
            found.difference_update(listed(row, folder))
    return found


async def _has_changed(
    core: RelayCore,
    view: FolderView,
    ledger: Ledger,
    due: Collection[RecordId],
    dying: set[RecordId],
    freed: set[BlobId],
) -> bool:
    """Take into account what the log got since `ledger` was read; return whether another plan is to be made."""
    dead = set(ledger.dead)
    async for row in rows_of(core.log, view.folder, ledger.index, (*KINDS, RecordKind.CHECKPOINT)):
        if row.kind != RecordKind.CHECKPOINT:
            ledger.take(row)
        if row.kind in KEEPERS:
            freed.difference_update(listed(row, view.folder))
    still_open = {retire.id for retire in await core.log.retires(view.folder)}
    # A receipt may have made a dead record live again, whose blobs nobody took for needed.
    return not still_open.issuperset(due) or ledger.dead != dead or ledger.dying(due) != dying


def _record(
    core: RelayCore, view: FolderView, due: Sequence[RecordId], dying: Sequence[RecordId], freed: Sequence[BlobId]
) -> tuple[list[Row], FolderView]:
    """Return the rows that say what is let go of, in as many records as it takes, and the log after them."""
    rows: list[Row] = []
    count = max(1, -(-len(dying) // RETIRE_RECORDS_MAX), -(-len(freed) // STORED_BLOBS_MAX))
    for part in range(count):
        data = make_collected(
            core.keys,
            view.folder,
            () if part else tuple(due),
            tuple(dying[part * RETIRE_RECORDS_MAX :][:RETIRE_RECORDS_MAX]),
            tuple(freed[part * STORED_BLOBS_MAX :][:STORED_BLOBS_MAX]),
        )
        record = LogRecord(RecordKind.COLLECTED, data)
        name, index = record_id(record), view.index + 1
        view = FolderView(view.folder, index, next_head(view.head, name), view.membership)
        rows.append(Row(index, name, record.kind, data, view.head))
    return rows, view
