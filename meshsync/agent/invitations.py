"""The invitations that are open in the folders of this device, whoever made them: what lets newcomers recognise it.

Invariant: derived from the membership chains and nothing else, so that every member that is there can let a newcomer
in, also after a restart; expired ones count no more. Nothing here is secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from meshsync.content.ticket import discovery_key
from meshsync.ids import DeviceId, FolderId, RecordId
from meshsync.metalog.membership import Membership
from meshsync.runtime import Runtime


class _Log(Protocol):
    @property
    def membership(self) -> Membership:
        """Who belongs to the folder now."""


class InvitingFolder(Protocol):
    """What invitations need of a folder."""

    @property
    def id(self) -> FolderId:
        """The folder's id."""

    @property
    def paused(self) -> bool:
        """Whether nothing is exchanged about the folder."""

    @property
    def replica(self) -> _Log:
        """The folder's log here."""


class Invitations:
    """`folders()` are those of this device."""

    def __init__(self, runtime: Runtime, folders: Callable[[], Iterable[InvitingFolder]]) -> None:
        self._runtime = runtime
        self._folders = folders
        self._derived: dict[FolderId, tuple[RecordId, list[tuple[int, bytes]]]] = {}

    def admits(self, folder: FolderId, ticket: DeviceId) -> bool:
        """Whether the ticket with this public key still lets somebody into `folder` here."""
        for each in self._folders():
            if each.id == folder:
                invite = each.replica.membership.invites.get(ticket)
                return invite is not None and invite.expires_s >= self._now_s()
        return False

    def any_open(self) -> bool:
        """Whether some newcomer may be let in to pair."""
        return bool(self.discovery_keys())

    def discovery_keys(self) -> list[bytes]:
        """Return the keys by which newcomers recognise this device, of the newest invitations first."""
        now_s = self._now_s()
        folders = [each for each in self._folders() if not each.paused]
        self._derived = {each.id: self._keys(each) for each in folders}
        return [key for _, keys in self._derived.values() for expires_s, key in keys if expires_s >= now_s]

    def _keys(self, folder: InvitingFolder) -> tuple[RecordId, list[tuple[int, bytes]]]:
        membership = folder.replica.membership
        known = self._derived.get(folder.id)
        if known is not None and known[0] == membership.head:
            return known
        invites = reversed(list(membership.invites.values()))
        return membership.head, [(each.expires_s, discovery_key(folder.id, DeviceId(each.ticket))) for each in invites]

    def _now_s(self) -> int:
        return self._runtime.wall_time_ns() // 10**9
