"""Becoming a backup with a ticket: a member that is given no key, and keeps what members bring.

Invariant: this device is a member on the inviter's or the relay's chain before anything is written here; a try that
fails leaves nothing.
"""

from __future__ import annotations

from pathlib import Path

from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.daemon import Agent
from meshsync.agent.joining import become_member, check_unused, taken_places
from meshsync.content.ticket import Ticket
from meshsync.errors import ConfigError
from meshsync.ids import DeviceId, short


async def join_as_backup(
    agent: Agent, ticket: Ticket, path: str, first: DeviceId | None = None
) -> tuple[BackupFolder, str]:
    """Become a backup of the ticket's folder, which is kept in the directory `path`, inside the home if it is empty.

    Returns it and the route, as `joining.join_folder`, and raises as that.
    """
    check_unused(agent, ticket)
    root = await agent.runtime.in_thread(_prepare, agent, Path(path)) if path else None
    reserved = await agent.backups.reserve(ticket.folder, root)
    try:
        chain, via = await become_member(agent, ticket, first)
    except BaseException:
        await agent.backups.abandon(reserved)
        raise
    name = root.name if root is not None and root.name else f"backup-{short(ticket.folder)}"
    return await agent.begin_backup(reserved, name, ticket.addresses, chain), via


def _prepare(agent: Agent, path: Path) -> Path:
    """Return a directory of its own for what is kept. Blocking. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        real = path.resolve(strict=True)
        present = {item.name for item in real.iterdir()}
    except OSError as error:
        raise ConfigError(f"the directory cannot be made: {error.strerror}", path=str(path)) from error
    for other in taken_places(agent):
        if real == other or real in other.parents or other in real.parents:
            raise ConfigError(f"the directory and the folder at {other} are one inside the other", path=str(path))
    if present - {"lost+found"}:
        raise ConfigError(
            "a backup is kept in a directory of its own, and this one is not empty",
            path=str(path),
            next_step="Name a directory that is empty or not there yet.",
        )
    return real
