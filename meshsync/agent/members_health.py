"""What the user should know of a folder's members: an end, a key that is not right, owners who acted at once."""

from __future__ import annotations

from meshsync.agent import api_schema as api
from meshsync.agent.folder import Folder
from meshsync.agent.members_names import named
from meshsync.agent.members_notes import MemberNotes
from meshsync.ids import DeviceId
from meshsync.metalog.membership_entry import (
    Admit,
    Change,
    ChangeRole,
    Enrol,
    Invite,
    Rekey,
    Remove,
    Revoke,
    SetRelay,
)


def parted(folder: Folder) -> api.HealthItem:
    """Return how this device came to be no member of `folder` any more."""
    own = folder.replica.device.device
    gone = folder.told.departures.get(own)
    by = "" if gone is None or gone.left else f" by {named(folder, gone.by).name}"
    return api.HealthItem(
        what=f"this device was removed from {folder.name}{by}",
        why="its files stay here and are not synced any more",
        next=f"meshsync leave {folder.name}",
        code="NotAMember",
    )


def items(folder: Folder, notes: MemberNotes) -> list[api.HealthItem]:
    """Return what is not as it should be among the members of `folder`, of which this device is one."""
    found = []
    replica = folder.replica
    if folder.freshness.unverified:
        found.append(
            api.HealthItem(
                what=f"{folder.name}: freshness unverified",
                why="it was recovered from the relay alone, which could hide what was added last",
                next="Start another device of the folder; this ends when it has nothing that is lacking here.",
                code="FreshnessUnverified",
            )
        )
    if replica.key_problem is not None:
        what = f"{folder.name}: the folder's present key was not given to this device as to others"
        error = replica.key_problem
        why = f"{error.what}; it was given by device {error.device}"
        found.append(
            api.HealthItem(what=what, why=why, next=f"meshsync members {folder.name}", code=type(error).__name__)
        )
    for lost in replica.overtaken:
        author, winner = named(folder, lost.entry.author).name, named(folder, lost.winner).name
        again = f"could not be made again: {lost.why_not}" if lost.why_not else "is made again after it"
        found.append(
            api.HealthItem(
                what=f"{folder.name}: {author} and {winner} changed the members at the same time",
                why=f"the change of {winner} stands; {_words(folder, lost.entry.change)} by {author} {again}",
                next=f"meshsync members {folder.name}",
            )
        )
    for device, refusal in replica.refused.items():
        what = f"{folder.name}: changes that {named(folder, device).name} may not make were refused"
        why = f"{refusal.what}; its copy of meshsync is altered, or has not heard of its role yet"
        found.append(
            api.HealthItem(what=what, why=why, next=f"meshsync members {folder.name}", code=type(refusal).__name__)
        )
    for device, count in _undecided(folder, notes).items():
        name = named(folder, device).name
        found.append(
            api.HealthItem(
                what=f"{folder.name}: {count} changes of {name} came after its end and are kept apart",
                why="it was removed, or may not write any more",
                next="meshsync held",
            )
        )
    return found


def _undecided(folder: Folder, notes: MemberNotes) -> dict[DeviceId, int]:
    counts: dict[DeviceId, int] = {}
    for entry in folder.replica.quarantined - notes.adopted:
        row = folder.replica.chains.row(entry)
        if row is not None:
            counts[row.device] = counts.get(row.device, 0) + 1
    return counts


def _words(folder: Folder, change: Change) -> str:
    match change:
        case Remove():
            return f"the removal of {named(folder, change.device).name}"
        case ChangeRole():
            return f"the new role of {named(folder, change.device).name}"
        case Rekey():
            return "the new key"
        case Invite() | Revoke():
            return "an invitation"
        case Admit():
            return "an admission"
        case Enrol():
            return "a recovery sheet"
        case SetRelay():
            return "a relay"
        case _:
            return "a change"
