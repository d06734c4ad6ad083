"""The folders that this device keeps as a backup.

Invariant: what a member asks about a folder that is not kept here, or not ready, is refused and costs no link.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent import backup_note
from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.backup_note import BackupHome, BackupNote
from meshsync.agent.backup_store import BackupStore, remove_store
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MalformedMessage, MeshsyncError, ResourceError
from meshsync.ids import DeviceId, FolderId
from meshsync.runtime import Runtime
from meshsync.transport.base import Link
from meshsync.transport.framed import FramedStream
from meshsync.wire.relay_messages import Attach, Code, pack, refused, unpack


@dataclass(frozen=True, slots=True)
class Reserved:
    """A place for a folder that this device may become a backup of: nobody else can take it."""

    home: BackupHome
    place: Path
    store: BackupStore


class Backups:
    """Belongs to one loop. `on_members` is told when members of a folder, or what is held of it, changed."""

    def __init__(self, runtime: Runtime, home: Path, on_change: Callable[[], None]) -> None:
        self.folders: dict[FolderId, BackupFolder] = {}
        self.unread: dict[FolderId, MeshsyncError] = {}  # notes that cannot be read, and why
        self._reserved: dict[FolderId, asyncio.Event] = {}  # set once it is kept or abandoned
        self._runtime = runtime
        self._home = home
        self._on_change = on_change

    async def start(self, keys: DeviceKeys) -> None:
        """Begin to serve every folder that is kept here."""
        self._keys = keys
        if not backup_note.are_kept(self._home):
            return
        for home in await self._runtime.in_thread(backup_note.existing, self._home):
            try:
                note = await self._runtime.in_thread(home.read)
            except MeshsyncError as error:
                self.unread[home.folder] = error
                continue
            await self._begin(home, note, None)

    async def reserve(self, folder: FolderId, root: Path | None) -> Reserved:
        """Make a place for a folder: `root`, an empty directory, or one inside the home for None.

        Raises ResourceError, StorageFull, ConfigError; then nothing is left. `keep` or `abandon` must follow.
        """
        home = await self._runtime.in_thread(backup_note.create, self._home, folder)
        place = root if root is not None else home.inner_root
        try:
            await self._runtime.in_thread(lambda: place.mkdir(mode=0o700, exist_ok=True))
            store = await BackupStore.open(self._runtime, self._keys, folder, place)
        except BaseException:
            await self._runtime.in_thread(home.remove)
            raise
        self._reserved[folder] = asyncio.Event()
        return Reserved(home, place, store)

    async def abandon(self, reserved: Reserved) -> None:
        """Give a place back: nothing was admitted."""
        self._settled(reserved)
        await reserved.store.close()
        with contextlib.suppress(ResourceError):  # an empty store in a directory of the user's is all that may stay
            await self._runtime.in_thread(remove_store, reserved.place)
        await self._runtime.in_thread(reserved.home.remove)

    async def keep(
        self, reserved: Reserved, name: str, addresses: Sequence[str], chain: Sequence[bytes]
    ) -> BackupFolder:
        """Begin to keep a folder whose verified membership chain admitted this device. Raises ResourceError."""
        note = BackupNote(backup_note.NOTE_VERSION, bytes(reserved.place), name, tuple(addresses))
        try:
            await reserved.store.found(chain)
            await self._runtime.in_thread(reserved.home.write, note)
        except BaseException:
            await self.abandon(reserved)
            raise
        folder = await self._begin(reserved.home, note, reserved.store)
        self._settled(reserved)
        return folder

    def _settled(self, reserved: Reserved) -> None:
        waiting = self._reserved.pop(reserved.home.folder, None)
        if waiting is not None:
            waiting.set()

    async def _begin(self, home: BackupHome, note: BackupNote, store: BackupStore | None) -> BackupFolder:
        folder = BackupFolder(self._runtime, home, note, self._keys, self._on_change)
        self.folders[folder.id] = folder
        await folder.start(store)
        return folder

    async def forget(self, folder: BackupFolder) -> None:
        """Keep a folder no longer: what lies in its place is removed.

        Raises ResourceError if that cannot be; then the folder is served no more, and can be forgotten again.
        """
        await folder.close()
        try:
            await self._runtime.in_thread(folder.remove)
        except ResourceError as error:
            folder.problem = error
            raise
        del self.folders[folder.id]

    async def close(self) -> None:
        """End everything."""
        for folder in self.folders.values():
            await folder.close()

    def named(self, name: str) -> BackupFolder | None:
        """Return the folder with this name, path or id (or its beginning), or None.

        Raises ConfigError if it may be several: who leaves one removes what is kept of it.
        """
        meant = [one for one in self.folders.values() if name == str(one.root)] or [
            one
            for one in self.folders.values()
            if name == one.name or (len(name) >= 8 and one.id.hex().startswith(name))
        ]
        if len(meant) > 1:
            raise ConfigError(
                "several folders that are kept here are called so",
                folder=name,
                path=", ".join(str(one.root) for one in meant),
                next_step="Name one by its path.",
            )
        return meant[0] if meant else None

    def knows(self, device: DeviceId) -> bool:
        """Whether `device` is a member of a folder that is kept here."""
        return any(folder.knows(device) for folder in self.folders.values())

    def discovery_keys(self) -> tuple[bytes, ...]:
        """Return by what members find this device."""
        return tuple(folder.discovery_key for folder in self.folders.values() if not folder.parted)

    async def serve(self, framed: FramedStream, link: Link) -> None:
        """Serve a stream that speaks as to a relay. Raises PeerError, TransientError."""
        frame = await framed.receive_frame()
        if frame is None:
            return
        first = unpack(*frame)
        if not isinstance(first, Attach):
            raise MalformedMessage(f"a backup is not asked for {type(first).__name__}")
        name = FolderId(first.folder)
        if name in self._reserved:  # members know of this backup as soon as one of them has admitted it
            await self._reserved[name].wait()
        folder = self.folders.get(name)
        framed.unread(frame)
        if folder is None or not await folder.serve(framed, link):
            await framed.send_frame(*pack(refused(Code.UNKNOWN, "this device does not keep this folder now")))
            await framed.finish()
