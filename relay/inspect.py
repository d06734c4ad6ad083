"""Looks at a relay's data from outside its process. Invariant: reads only; a running relay is not disturbed."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshsync.errors import IntegrityError, MeshsyncError, NotFound
from meshsync.ids import BlobId, FolderId, short
from meshsync.limits import RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.stored import open_stored
from relay.config import RelayConfig
from relay.drivers.base import ChunkStore, MetadataLog, Row
from relay.ledger import read_ledger


@dataclass(slots=True)
class Finding:
    """What a check found: counts, and one sentence for each problem."""

    folders: int = 0
    records: int = 0
    blobs: int = 0
    problems: list[str] = field(default_factory=list)


def require_data(config: RelayConfig) -> None:
    """Return if a relay has run with this data directory. Raises NotFound."""
    if not config.log_path.exists():
        raise NotFound("no relay has run here", path=str(config.data), next_step="Start one: meshsync-relay up")


async def check(log: MetadataLog, chunks: ChunkStore) -> Finding:
    """Read every folder's log, follow its hash chain, and ask for every blob that a receipt promised."""
    finding = Finding()
    for folder in await log.folders():
        finding.folders += 1
        try:
            await _check_folder(log, chunks, folder, finding)
        except MeshsyncError as error:
            finding.problems.append(f"folder {short(folder)}: {error}")
    return finding


async def _check_folder(log: MetadataLog, chunks: ChunkStore, folder: FolderId, finding: Finding) -> None:
    ledger = await read_ledger(log, folder)
    head, index = GENESIS_HEAD, 0
    while rows := await log.read(folder, index + 1, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX):
        promised: set[BlobId] = set()
        for row in rows:
            head, index = _follow(row, head, index)
            if row.kind == RecordKind.STORED and row.id not in ledger.dead:
                promised.update(open_stored(row.data, folder).blobs)
        finding.records += len(rows)
        finding.blobs += len(promised)
        there = (await log.blobs(folder, promised)).keys() & await chunks.has(sorted(promised))
        lost = sorted(promised - there)
        finding.problems += [f"folder {short(folder)}: blob {blob.hex()} is lost or damaged" for blob in lost]
    state = await log.state(folder)
    if state is None or (state.index, state.head) != (index, head):
        raise IntegrityError("the folder's head is not the head of its records")


def _follow(row: Row, head: bytes, index: int) -> tuple[bytes, int]:
    reached = next_head(head, record_id(LogRecord(row.kind, row.data)))
    if row.index != index + 1 or row.head != reached:
        raise IntegrityError(f"the record at index {row.index} breaks the hash chain")
    return reached, row.index
