"""What the local API needs from the daemon, as a Protocol.

Invariant: every method is safe to call at any time and from several requests at once; it returns a value of
`api_schema` or raises a `MeshsyncError`, and never anything else. Cancelling a call leaves the folder intact.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from meshsync.agent import api_recovery, api_retention
from meshsync.agent import api_schema as api


class Progress(Protocol):
    """Where a long operation tells how far it is."""

    def __call__(self, done: int, total: int) -> None:
        """Report `done` of `total` bytes. `total` may grow; calls cost little and may be frequent."""


class Operations(Protocol):
    """The daemon as its user sees it. `folder` arguments accept a name, an id or a path; paths are absolute."""

    async def status(self) -> api.Status:
        """Return the state of everything. Never waits for the network."""

    async def folders(self) -> api.FolderList:
        """Return every folder of this device."""

    async def devices(self) -> api.DeviceList:
        """Return every other device of every folder."""

    async def stats(self) -> api.Stats:
        """Return the counters since the agent started."""

    async def share(self, request: api.ShareRequest, progress: Progress) -> api.ShareResult:
        """Make an invitation, after linking the path as a folder if it is none yet and scanning it once.

        Raises ConfigError if the path cannot be a folder, RoleForbids if this device may not invite.
        """

    async def invitations(self, folder: str) -> api.InvitationList:
        """Return the open invitations of `folder` (empty: all). Raises NotFound."""

    async def revoke(self, request: api.RevokeRequest) -> api.RevokeResult:
        """Take invitations back; return when that is recorded here. Raises NotFound, RoleForbids."""

    async def join(self, request: api.JoinRequest, progress: Progress) -> api.JoinResult:
        """Join a folder and return when its tree is complete here.

        Raises TicketInvalid, ConfigError (unusable path), SourceUnavailable (nobody who has the folder is reachable).
        """

    async def recovery(self) -> api_recovery.RecoveryStatus:
        """Return which folders this device's recovery sheet brings back."""

    async def make_sheet(self, request: api_recovery.SheetRequest) -> api_recovery.Sheet:
        """Make the recovery sheet and return its words, which are nowhere afterwards.

        Raises ConfigError if there is one and another was not asked for, ResourceError.
        """

    async def recover(self, request: api_recovery.RecoverRequest, progress: Progress) -> api_recovery.Recovered:
        """Bring back what a sheet owns at a relay; return when the trees are complete here.

        Raises SheetInvalid, ConfigError (address, path), TransientError (the relay cannot be reached).
        """

    async def members(self, folder: str) -> api.MemberList:
        """Return the members of one folder. Raises NotFound."""

    async def verify(self, folder: str, device: str) -> api.SafetyNumber:
        """Return the number to compare with another member. Raises NotFound, ConfigError."""

    async def change_role(self, request: api.RoleRequest) -> api.RoleResult:
        """Give a member another role. Raises NotFound, RoleForbids, ConfigError."""

    async def remove(self, request: api.RemovalRequest) -> api.RemovalResult:
        """Remove a device or a person's devices. Raises NotFound, RoleForbids, ConfigError."""

    async def unshare(self, request: api.UnshareRequest) -> api.RemovalResult:
        """End the sharing of a folder that stays here. Raises NotFound, RoleForbids."""

    async def leave(self, folder: str) -> api.LeaveResult:
        """Stop syncing a folder, tell its members, and forget its keys. Files stay.

        Raises NotFound, RoleForbids (the last owner of a folder that others share).
        """

    async def log(self, folder: str, path: str) -> api.VersionList:
        """Return the versions of `path`, or of everything in `folder` if `path` is empty. Raises NotFound."""

    async def versions(self, folder: str, deleted: bool) -> api.VersionList:
        """Return the versions of every path of `folder` (empty: all folders); `deleted`: only of paths now gone."""

    async def find(self, name: str, folder: str, deleted: bool) -> api.VersionList:
        """Return the newest version of each file that has or had `name`; `deleted`: only of what is gone now.

        `name` is part of the last name of a path, or a pattern for the whole of it. Raises NotFound (no such folder).
        """

    async def snapshot(self, request: api.SnapshotRequest) -> api.SnapshotList:
        """Take a snapshot once what the user did so far is published, or remove one; return those of the name.

        Raises ConfigError (the name, the folder is not there), NotFound, RoleForbids, TransientError, ResourceError.
        """

    async def snapshots(self, folder: str) -> api.SnapshotList:
        """Return the snapshots of `folder` (empty: all). Raises NotFound."""

    async def retention(self, folder: str) -> api_retention.RetentionList:
        """Return how long `folder` (empty: each) keeps versions, and what waits to be let go of. Raises NotFound."""

    async def set_retention(self, request: api_retention.RetentionRequest) -> api_retention.RetentionList:
        """Set how long a folder keeps versions; return it. Raises NotFound, RoleForbids (not an owner's device)."""

    async def collect(self, request: api_retention.CollectRequest) -> api_retention.CollectResult:
        """Have relays let go of versions that are kept no longer; `dry_run`: only say which these are.

        Raises NotFound, RoleForbids, FormatUnsupported (the policy is a newer build's).
        """

    async def directory(self, path: str, at: str, after: str) -> api.Directory:
        """Return what was in the directory `path` at a time or snapshot (empty: now), from the name after `after` on.

        Raises NotFound, ConfigError.
        """

    async def compare(self, path: str, since: str, until: str) -> api.Differences:
        """Return what differs at and below `path` between two times or snapshots (`until` empty: now).

        Raises NotFound, ConfigError.
        """

    def cat(self, path: str, version: str, at: str) -> AsyncIterator[bytes]:
        """Yield the content of `version` (number or id; empty: the present one) of `path` in pieces.

        Or of what lay there `at` a time or snapshot.

        A piece has passed its check. Raises NotFound before the first piece, SourceUnavailable at any piece.
        """

    async def restore(self, request: api.RestoreRequest, progress: Progress) -> api.RestoreResult:
        """Bring an old version back. Raises NotFound, SourceUnavailable, ResourceError."""

    async def undo(self, request: api.UndoRequest, progress: Progress) -> api.UndoResult:
        """Undo what one device or everybody did since a time; return once that is published.

        Raises NotFound (no such device or folder), ConfigError (the folder is not there), RoleForbids, TransientError.
        """

    async def conflicts(self, folder: str) -> api.ConflictList:
        """Return the paths in conflict of `folder` (empty: all)."""

    async def resolve(self, request: api.ResolveRequest, progress: Progress) -> api.ResolveResult:
        """End a conflict by changes of files like any of the user's; return when they are made, before they are told.

        Raises NotFound (no conflict there), ConfigError (that cannot win), TextsClash, SourceUnavailable (the common
        base), TransientError (a file was changed meanwhile), RoleForbids, ResourceError.
        """

    async def held_changes(self, folder: str) -> api.HeldList:
        """Return the mass changes of `folder` (empty: all) that wait for a decision. Raises NotFound."""

    async def adopt(self, request: api.AdoptRequest, progress: Progress) -> api.AdoptResult:
        """Bring what a device wrote beyond its end into a new directory of the folder, or stop to list it.

        Raises NotFound, RoleForbids (no owner), ConfigError (the folder is not there), ResourceError.
        """

    async def release(self, request: api.HoldRequest) -> api.HoldResult:
        """Let exactly what is held pass, once; return when that is recorded. Raises NotFound, ResourceError."""

    async def reject(self, request: api.HoldRequest) -> api.HoldResult:
        """Undo what is held: bring it back here, or publish what lies here again; return when that is recorded.

        Raises NotFound, RoleForbids, ResourceError, TransientError (files are still being changed).
        """

    async def why(self, path: str) -> api.Why:
        """Explain the state of one path. Raises NotFound if it lies in no folder."""

    async def pause(self, folder: str) -> None:
        """Exchange nothing about `folder` (empty: all) with anyone from now on; local changes are still noticed."""

    async def resume(self, folder: str) -> None:
        """End a pause. Does nothing if there is none."""

    async def rescan(self, folder: str) -> None:
        """Look at every path of `folder` (empty: all) again; return when the scan is done and published."""

    async def wait(self, request: api.WaitRequest) -> api.WaitResult:
        """Return when what `request` asks for is so. Raises PeerTimeout after `timeout_s`, NotFound."""

    async def doctor(self) -> api.DoctorReport:
        """Examine the machine and the agent."""

    async def stop(self) -> None:
        """Begin to end the agent; returns at once, before the agent is gone."""
