"""A folder that this device keeps for others and cannot read: its place on disk, who belongs to it, what is held.

Invariant: nothing is taken into a place that is not there: an unmounted disk is waited for, and not begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshsync.agent.backup_note import BackupHome, BackupNote
from meshsync.agent.backup_store import LOG_NAME, BackupStore, Fetch, Held, remove_store
from meshsync.agent.changes import Changes
from meshsync.content.backup import discovery_key
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import IntegrityError, LinkClosed, MeshsyncError, ResourceError, TransientError
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import BACKUP_CHECK_S, BACKUP_LOOK_S, RETRY_BLOCKED_S
from meshsync.metalog.membership import Membership
from meshsync.metalog.record_log import LogRecord
from meshsync.runtime import Runtime
from meshsync.transport.base import Link
from meshsync.transport.framed import FramedStream


class BackupFolder:
    """Belongs to one loop. `problem` says why nothing is kept or served now."""

    def __init__(
        self, runtime: Runtime, home: BackupHome, note: BackupNote, keys: DeviceKeys, on_change: Callable[[], None]
    ) -> None:
        """`on_change` is told when members, what is held, or the problem changed."""
        self.home = home
        self.note = note
        self.held = Held()
        self.membership: Membership | None = None
        self.problem: MeshsyncError | None = None
        self._runtime = runtime
        self._keys = keys
        self._on_change = on_change
        self._grown = Changes()
        self._store: BackupStore | None = None
        self._task: asyncio.Task[None] | None = None
        self._serving: dict[asyncio.Task[None], None] = {}

    @property
    def id(self) -> FolderId:
        """The folder's id."""
        return self.home.folder

    @property
    def name(self) -> str:
        """How this device's user calls it; what its members call it is sealed."""
        return self.note.name

    @property
    def root(self) -> Path:
        """Where log and blobs are."""
        return Path(os.fsdecode(self.note.root))

    @property
    def discovery_key(self) -> bytes:
        """By what members find this device."""
        return discovery_key(self.id, self._keys.device)

    @property
    def parted(self) -> bool:
        """Whether this device is no member any more, as far as it was told."""
        return self.membership is not None and not self.membership.is_member(self._keys.device)

    @property
    def relays(self) -> Mapping[DeviceId, tuple[str, ...]]:
        """The relays of the folder, by address; none once this device is no member any more."""
        return {} if self.membership is None or self.parted else self.membership.relays

    @property
    def damaged(self) -> int:
        """How many blobs turned out to be damaged since the start."""
        return 0 if self._store is None else self._store.damaged

    def knows(self, device: DeviceId) -> bool:
        """Whether `device` is a member, and this one too."""
        return self.membership is not None and not self.parted and self.membership.is_member(device)

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self, store: BackupStore | None = None) -> None:
        """Begin to serve; a place that is missing is waited for. `store` is given if it is open already."""
        if store is not None:
            await self._opened(store)
        self._task = self._runtime.spawn(self._run(), f"backup {self.name}")

    async def close(self) -> None:
        """End everything and release the files."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._shut()

    async def _shut(self) -> None:
        for task in (serving := [*self._serving]):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        if self._store is not None:
            store, self._store = self._store, None
            await store.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._keep(self._store or await self._opened(await self._open()))
            except MeshsyncError as error:
                self.problem = error
                self._on_change()
                await self._shut()  # a disk that comes back is another: what is open of the old one answers no more
                await self._runtime.sleep(RETRY_BLOCKED_S)

    async def _keep(self, store: BackupStore) -> None:
        growing = self._runtime.spawn(store.run(self._grown.note), "backup store")
        try:
            count = self._grown.count
            while True:
                with contextlib.suppress(TimeoutError):  # its disk may fail without any news
                    async with asyncio.timeout(BACKUP_CHECK_S):
                        count = await self._grown.after(count)
                await self._must_be_there()
                await self._look(store)
                await self._runtime.sleep(BACKUP_LOOK_S)
        finally:
            growing.cancel()
            await asyncio.gather(growing, return_exceptions=True)

    async def _open(self) -> BackupStore:
        await self._must_be_there()
        return await BackupStore.open(self._runtime, self._keys, self.id, self.root)

    async def _must_be_there(self) -> None:
        if not await self._runtime.in_thread(self.is_there):
            raise ResourceError(
                "what this device keeps for others is not there",
                folder=self.name,
                path=str(self.root),
                next_step="Mount its disk; it goes on by itself.",
            )

    async def _opened(self, store: BackupStore) -> BackupStore:
        membership = await store.membership()
        if membership is None:
            await store.close()
            raise IntegrityError("the log of this folder is not there", folder=self.name, path=str(self.root))
        self._store, self.problem = store, None
        await self._look(store)
        return store

    async def _look(self, store: BackupStore) -> None:
        """Learn what members appended."""
        try:
            self.membership, self.held = await store.membership(), await store.held()
            self.problem = None
        except MeshsyncError as error:
            self.problem = error
        self._on_change()

    def is_there(self) -> bool:
        """Whether what is kept lies in its place now, which a disk may be missing from. Blocking."""
        return (self.root / LOG_NAME).exists()

    def remove(self) -> None:
        """Remove what is kept, and the note of it. Blocking, once closed. Raises ResourceError."""
        remove_store(self.root)
        self.home.remove()

    async def copy(self, records: Sequence[LogRecord], fetch: Fetch) -> None:
        """Take what another keeper has, as `BackupStore.copy`. Raises TransientError while nothing can be kept."""
        if self._store is None:
            raise TransientError("what this device keeps for others is not there", folder=self.name)
        await self._store.copy(records, fetch)

    # --- members ------------------------------------------------------------------------------------------------

    async def serve(self, framed: FramedStream, link: Link) -> bool:
        """Serve a stream of a member until its end; False if nothing can be served now.

        Raises PeerError, TransientError.
        """
        if self._store is None:
            return False
        task = self._runtime.spawn(self._store.serve(framed, link), "serve member")
        self._serving[task] = None
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                raise
            raise LinkClosed("the backup is being closed") from None
        finally:
            self._serving.pop(task, None)
        return True
