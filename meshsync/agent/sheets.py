"""The recovery sheet of this device: made once, an owner of every folder that this device owns, also of later ones.

Invariant: the words leave this module once, in the answer to who asked for the sheet; nothing here keeps, writes or
logs them or what they derive.
"""

from __future__ import annotations

import asyncio
import logging

from meshsync.agent import api_recovery as api
from meshsync.agent.folder import Folder
from meshsync.agent.home import Home
from meshsync.agent.key_ring import device_label, seal_name
from meshsync.agent.members_keys import SheetPublic, make_enrolment, make_removal
from meshsync.agent.sheet_note import NOTE_VERSION, SheetNote, load_note, save_note
from meshsync.content.recovery_sheet import SECRET_SIZE_BYTES, sheet_keys, sheet_words
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MeshsyncError
from meshsync.ids import DeviceId
from meshsync.limits import SHEETS_REPLACED_MAX
from meshsync.metalog.membership_entry import (
    CONSENT_SIGNATURE_KIND,
    Enrol,
    Remove,
    consent_statement,
)
from meshsync.runtime import Runtime

log = logging.getLogger(__name__)


class Sheets:
    """Belongs to one loop. `keys` are this device's; `person` is whose it is."""

    def __init__(self, runtime: Runtime, home: Home, keys: DeviceKeys, device_name: str, person: str) -> None:
        """Blocking: reads the note. Raises ConfigError if it is damaged."""
        self._runtime, self._home, self._keys = runtime, home, keys
        self._label = device_label(f"recovery sheet of {device_name}", person)
        self._making = asyncio.Lock()
        self.note = load_note(home)

    async def make(self, new: bool) -> tuple[str, ...]:
        """Return the words of a fresh sheet, whose public part is durable here; `keep` then makes it an owner.

        Raises ConfigError if there is one and `new` does not ask for another in its place, ResourceError.
        """
        async with self._making:
            before = self.note
            if before is not None and not new:
                raise ConfigError(
                    "this device has a recovery sheet; its words were shown once and are nowhere",
                    next_step="meshsync recovery sheet --new     (the old one ends then)",
                )
            secret = self._runtime.random_bytes(SECRET_SIZE_BYTES)
            replaced = () if before is None else (*before.replaced, before.device)[-SHEETS_REPLACED_MAX:]
            await self._write(sheet_keys(secret), replaced)
            return sheet_words(secret)

    async def adopt(self, sheet: DeviceKeys) -> None:
        """Go on with the sheet by which this device was recovered, unless it has one of its own."""
        async with self._making:
            if self.note is None:
                await self._write(sheet, ())

    async def _write(self, sheet: DeviceKeys, replaced: tuple[bytes, ...]) -> None:
        statement = consent_statement(sheet.device, sheet.box_public, self._keys.device)
        consent = sheet.sign(CONSENT_SIGNATURE_KIND, statement)
        made_s = self._runtime.wall_time_ns() // 10**9
        note = SheetNote(NOTE_VERSION, sheet.device, sheet.box_public, consent, made_s, replaced)
        await self._runtime.in_thread(save_note, self._home, note)
        self.note = note

    async def keep(self, folder: Folder) -> None:
        """Make the sheet an owner of `folder` if this device is one, and remove the sheets that it replaced.

        A sheet that somebody removed from the folder stays removed. What cannot be done now is tried at the next
        change of the members. A single shared file is a copy of what is kept elsewhere, and needs no sheet.
        """
        note = self.note
        if note is None or folder.handout is not None or self._keys.device not in folder.replica.membership.owners():
            return
        replica = folder.replica

        def enrol() -> Enrol | None:
            public = SheetPublic(DeviceId(note.device), note.box_public, note.consent)
            if note.device in folder.told.departures or self._keys.device not in replica.membership.owners():
                return None
            name = seal_name(replica.keys.secret, self._label)
            return make_enrolment(replica, self._runtime, public, name)

        try:
            await replica.propose(enrol)
            for old in note.replaced:
                await self._remove(folder, DeviceId(old))
        except MeshsyncError as error:
            log.warning("the recovery sheet cannot be made an owner now: %s", error)

    async def _remove(self, folder: Folder, sheet: DeviceId) -> None:
        replica = folder.replica

        def remove() -> Remove | None:
            return make_removal(replica, self._runtime, sheet) if replica.membership.is_member(sheet) else None

        await replica.propose(remove)

    def state(self, folder: Folder) -> api.SheetState:
        """Return whether the sheet could bring `folder` back, and if not why."""
        membership, note = folder.replica.membership, self.note
        if note is None:
            return "no sheet"
        if not membership.is_member(DeviceId(note.device)):
            if note.device in folder.told.departures:
                return "removed"
            return "waiting" if self._keys.device in membership.owners() else "not an owner"
        if not membership.relays:
            return "no relay"
        there = any(not folder.relay_rows.unseen_membership(relay) for relay in membership.relays)
        return "ready" if there else "waiting"
