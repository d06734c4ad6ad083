"""A simulated relay machine with the real drivers: log in SQLite, blobs in packs, both in a directory of the test.

Invariant: a write, sync, rename or removal of a pack, and a commit of the log, passes `step` first; after a crash the
log holds what was committed, the packs what a power cut leaves of them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshsync.errors import MeshsyncError
from meshsync.ids import BlobId, FolderId, RecordId
from meshsync.limits import RELAY_GRACE_S
from meshsync.metalog.record_log import RecordKind
from meshsync.metalog.stored import open_stored
from meshsync.runtime import Runtime
from meshsync.store.packs import PackStore
from meshsync.transport.memory import MemoryEndpoint
from relay.core import RelayCore
from relay.drivers.hints import LocalHints
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog
from relay.server import POLICY
from relay.service import RelayService
from relay.upkeep import Upkeep
from tests.sim.identity import RELAY, SECRET
from tests.sim.index import refusing
from tests.sim.network import port_of
from tests.sim.process import Crashed, Process
from tests.sim.relay_machine import SimRelay
from tests.sim.runtime import SimRuntime
from tests.support.crash_files import CrashFiles, Unsynced


class SteppedRelay(SimRelay):
    """`place` is an empty directory; `step(call)` may raise OSError, or kill the machine and raise Crashed."""

    place: Path
    step: Callable[[str], None]
    unsynced: Unsynced = Unsynced.KEPT
    """What the next start finds of what was not synced."""

    keeps_up_s: float = 0.0
    """Seconds between two steps of its upkeep, each of which finds that a grace period has passed; 0: none."""

    def use(self, place: Path, step: Callable[[str], None]) -> None:
        """Set the two; before the first start."""
        self.place, self.step = place, step
        self._packs: PackStore | None = None
        self._log: SqliteLog | None = None
        self._files: _Files | None = None

    async def _serve(self, runtime: SimRuntime) -> None:
        process = self.process
        self.release()

        def step(call: str) -> None:
            process.step(call)
            self.step(call)

        packs = await runtime.in_thread(self._open_packs, step)
        self._log = _log(self.place / "log.sqlite", runtime, process, step)
        core = RelayCore(
            RELAY, runtime, self._log, ThreadedChunkStore(packs, runtime), LocalHints(), lambda: [SECRET], 1 << 40
        )
        endpoint = await MemoryEndpoint.open(runtime, RELAY, self._memory, POLICY, port_of(0))
        RelayService(core, endpoint).start()
        if self.keeps_up_s:
            await self._keep_up(core, runtime)

    async def _keep_up(self, core: RelayCore, runtime: Runtime) -> None:
        upkeep = Upkeep(core)
        while True:
            await runtime.sleep(self.keeps_up_s)
            with contextlib.suppress(MeshsyncError):
                await core.log.wait(RELAY_GRACE_S)
                await upkeep.step()

    def _open_packs(self, step: Callable[[str], None]) -> PackStore:
        self._files = _Files(step)
        self._packs = PackStore(self.place / "chunks", self._files)
        return self._packs

    def release(self) -> None:
        """Take from the dead process what it had open; lose what was not synced."""
        if self._log is not None:
            for connection in (self._log._writer, self._log._reader):
                connection.close()
            self._log = None
        if self._packs is not None:
            self._packs._catalog._db.close()
            os.close(self._packs._lock_fd)
            self._packs = None
        if self._files is not None:
            self._files.power_cut(self.place / "chunks", self.unsynced)
            self._files, self.unsynced = None, Unsynced.KEPT

    def holds(self, folder: FolderId) -> set[RecordId]:
        """Return the records of a folder's log. Raises MeshsyncError if a blob that they pin is lost or damaged."""
        assert self._log is not None and self._packs is not None
        rows = self._log._reader.execute(
            "SELECT records.id FROM records JOIN folders ON number = folder WHERE folders.id = ?", (folder,)
        )
        records = {RecordId(row[0]) for row in rows}
        for (blob,) in self._log._reader.execute("SELECT id FROM blobs WHERE pinned = 1"):
            self._packs.get(BlobId(blob))
        return records

    def kept(self, folder: FolderId) -> tuple[set[bytes], set[bytes], int]:
        """Return (versions of which living records speak, blobs that these list, retire records that wait)."""
        assert self._log is not None
        rows = self._log._reader.execute(
            "SELECT kind, data, dead FROM records JOIN folders ON number = folder WHERE folders.id = ?", (folder,)
        ).fetchall()
        living = [open_stored(data, folder) for kind, data, dead in rows if kind == RecordKind.STORED and not dead]
        ((waiting,),) = self._log._reader.execute("SELECT count(*) FROM retires")
        return {dot for one in living for dot in one.dots}, {blob for one in living for blob in one.blobs}, waiting

    def blobs_at_rest(self) -> set[BlobId]:
        """Return what the packs hold."""
        assert self._packs is not None
        return set(self._packs.ids())


class _Files(CrashFiles):
    """Pack files that ask before each change."""

    def __init__(self, step: Callable[[str], None]) -> None:
        super().__init__()
        self._step = step

    def _count(self) -> None:
        self._step("pack")


class _Doorway:
    """The log's writing connection: a commit may be the last act of the process, or be refused."""

    def __init__(self, connection: sqlite3.Connection, process: Process, step: Callable[[str], None]) -> None:
        self._connection, self._process, self._step = connection, process, step

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql == "COMMIT":
            with refusing(self._connection):
                self._step("commit")
        elif sql[:5] == "BEGIN" and not self._process.alive:
            raise Crashed(sql)
        return self._connection.execute(sql, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _log(path: Path, runtime: Runtime, process: Process, step: Callable[[str], None]) -> SqliteLog:
    log = SqliteLog(path, runtime)
    log._writer = _Doorway(log._writer, process, step)  # type: ignore[assignment]
    return log
