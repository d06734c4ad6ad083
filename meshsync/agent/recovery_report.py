"""What the user is told of the recovery sheet."""

from __future__ import annotations

import asyncio

from meshsync.agent import api_recovery as api
from meshsync.agent.daemon import Agent
from meshsync.agent.inviting import reach_relays
from meshsync.agent.status_report import time_text
from meshsync.crypto.safety_number import fingerprint
from meshsync.ids import DeviceId


async def make_sheet(agent: Agent, request: api.SheetRequest) -> api.Sheet:
    """Make the sheet an owner of every open folder, and return its words once linked relays know of it.

    Raises ConfigError, ResourceError.
    """
    words = await agent.sheets.make(request.new)
    folders = list(agent.folders.values())
    for folder in folders:
        await agent.sheets.keep(folder)
    await asyncio.gather(*(reach_relays(agent, folder) for folder in folders))
    agent.note_change()
    known = status(agent)
    return api.Sheet(words=list(words), fingerprint=known.fingerprint, relays=known.relays, folders=known.folders)


def status(agent: Agent) -> api.RecoveryStatus:
    """Return which folders the sheet brings back, and from where."""
    note = agent.sheets.note
    kept = (folder for folder in agent.folders.values() if folder.handout is None)  # what else is here are copies
    folders = sorted(kept, key=lambda folder: folder.name)
    listed = [
        api.SheetFolder(id=folder.id.hex(), name=folder.name, state=agent.sheets.state(folder)) for folder in folders
    ]
    return api.RecoveryStatus(
        made=None if note is None else time_text(note.made_s * 10**9),
        fingerprint="" if note is None else fingerprint(DeviceId(note.device)),
        relays=[client.address.without_secret().text for client in agent.relays.values()],
        folders=listed,
    )
