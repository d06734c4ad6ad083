"""What waits for the user's decision, as users see it."""

from __future__ import annotations

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.observer import display
from meshsync.agent.safeguard import Hold
from meshsync.agent.status_report import time_text
from meshsync.errors import NotFound
from meshsync.ids import short
from meshsync.limits import HELD_EXAMPLES_MAX


def held_changes(agent: Agent, folder: Folder) -> list[api.HeldChange]:
    """Return what is held in one folder, oldest first."""
    holds = sorted(folder.guard.holds.values(), key=lambda hold: (hold.since_ns, hold.id))
    return [_held(agent, folder, hold) for hold in holds]


def find_held(agent: Agent, hold: str) -> Folder:
    """Return the folder in which `hold` is, or was, if its rejection could not bring all back. Raises NotFound."""
    for folder in agent.folders.values():
        if folder.guard.find(hold) is not None or folder.sought.of(hold):
            return folder
    raise NotFound(f"nothing is held under {hold}", next_step="meshsync held")


def _held(agent: Agent, folder: Folder, hold: Hold) -> api.HeldChange:
    side, change, device = hold.cause
    return api.HeldChange(
        id=hold.id,
        folder=folder.name,
        side=side.value,
        change=change.value,
        why=hold.why.value,
        device=agent.names().get(device, short(device)) if device else "",
        count=hold.count,
        total=hold.total,
        passed=folder.guard.passed(hold),
        examples=_examples(folder, hold),
        since=time_text(hold.since_ns),
    )


def _examples(folder: Folder, hold: Hold) -> list[str]:
    """Return some of the paths concerned; none before the folder was planned for after a restart."""
    files = () if hold.held is None else hold.held.files
    chosen = sorted(files)[:HELD_EXAMPLES_MAX]
    return [display(path) for node in chosen if (path := folder.synced.path_of(node)) is not None]
