"""What the user of a backup is told of the folders that it keeps."""

from __future__ import annotations

from meshsync.agent import api_backup
from meshsync.agent import api_schema as api
from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.daemon import Agent
from meshsync.ids import short


def kept_folders(agent: Agent) -> list[api_backup.KeptFolder]:
    """Return every folder that this device keeps as a backup."""
    return [kept_folder(agent, one) for one in sorted(agent.backups.folders.values(), key=lambda one: one.name)]


def kept_folder(agent: Agent, folder: BackupFolder) -> api_backup.KeptFolder:
    """Return the state of one kept folder."""
    members = [] if folder.membership is None else list(folder.membership.members)
    others = [device for device in members if device != agent.keys.device]
    phase: api_backup.BackupPhase = "keeping"
    if folder.parted:
        phase = "ended"
    elif folder.problem is not None:
        phase = "not there"
    return api_backup.KeptFolder(
        id=folder.id.hex(),
        name=folder.name,
        path=str(folder.root),
        state=phase,
        members=len(members),
        linked=sum(agent.links.get(device) is not None for device in others),
        blobs=folder.held.blobs,
        bytes=folder.held.bytes,
        records=folder.held.records,
    )


def health(agent: Agent) -> list[api.HealthItem]:
    """Return what is wrong with kept folders."""
    items = []
    for name, error in agent.backups.unread.items():
        what = f"a folder that is kept here ({short(name)}) cannot be opened"
        items.append(api.HealthItem(what=what, why=error.what, next="meshsync doctor", code=type(error).__name__))
    for folder in agent.backups.folders.values():
        if folder.parted:
            what = f"{folder.name}: this device is no backup of it any more"
            then = f"To remove what is kept: meshsync leave {folder.name}"
            items.append(api.HealthItem(what=what, why="an owner removed it", next=then))
        elif folder.problem is not None:
            error = folder.problem
            items.append(
                api.HealthItem(
                    what=f"{folder.name}: {error.what}", why=error.path, next=error.next_step, code=type(error).__name__
                )
            )
        elif folder.damaged:
            what = f"{folder.name}: {folder.damaged} kept pieces are damaged"
            why = "the disk returned other bytes than were stored; members bring them again"
            items.append(api.HealthItem(what=what, why=why, next="Look at the disk.", code="BlobCorrupt"))
    return items
