"""The daemon as its user sees it: `Operations` over a running `Agent`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from meshsync.agent import (
    api_recovery,
    api_retention,
    browsing,
    handouts_report,
    held_report,
    members_acts,
    members_report,
    quarantine,
    recovery_report,
    resolving,
    restoring_report,
    retention_report,
    snapshots,
    status_report,
    undoing_report,
    versions_report,
)
from meshsync.agent import api_schema as api
from meshsync.agent.backup_joining import join_as_backup
from meshsync.agent.code_joining import Exchanged, exchange_code
from meshsync.agent.daemon import Agent
from meshsync.agent.decisions import Verb
from meshsync.agent.doctor import examine
from meshsync.agent.explain import explain
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.founding import check_root, found_folder
from meshsync.agent.handing_out import hand_out, is_stored, take_back
from meshsync.agent.history import unpack_content
from meshsync.agent.inviting import make_invitation, reach_relays, tell_code
from meshsync.agent.joining import arrived, join_folder, taken_places
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.recovering import bring_back, complete
from meshsync.agent.restoring import version_pieces
from meshsync.agent.revoking import open_invitations, revoke
from meshsync.content.code import looks_like_code, parse_code
from meshsync.content.record import Kind
from meshsync.content.ticket import Ticket, parse_ticket
from meshsync.errors import ConfigError, MeshsyncError, NotFound, PeerTimeout
from meshsync.ids import short
from meshsync.limits import LOST_TOLD_MAX, VERSIONS_LISTED_MAX, WAIT_NOTICE_S
from meshsync.roles import Role

_ROLES = {"owner": Role.OWNER, "writer": Role.WRITER, "reader": Role.READER, "backup": Role.BACKUP}


class Service:
    """Implements `Operations`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._setting_up = asyncio.Lock()

    async def status(self) -> api.Status:
        return handouts_report.completed(self._agent, status_report.status(self._agent))

    async def folders(self) -> api.FolderList:
        return api.FolderList(folders=status_report.status(self._agent).folders)

    async def devices(self) -> api.DeviceList:
        return api.DeviceList(devices=status_report.device_states(self._agent))

    async def stats(self) -> api.Stats:
        return status_report.stats(self._agent)

    async def share(self, request: api.ShareRequest, progress: Progress) -> api.ShareResult:
        path = Path(request.path)
        path, is_file = await self._agent.runtime.in_thread(lambda: (path.resolve(), path.is_file()))
        if is_file and request.role == "backup":
            what, following = "only a folder can be backed up", f"meshsync share --backup {path.parent}"
            raise ConfigError(what, path=str(path), next_step=following)
        if is_file:
            folder, ticket = await hand_out(self._agent, path, request.this_version, request.expires_s, progress)
        else:
            folder, ticket = await self._share_folder(path, request)
        told = await tell_code(self._agent, ticket)
        closes_in_s = told.closes_s - self._agent.runtime.monotonic()
        return api.ShareResult(
            folder=folder.id.hex(),
            code=told.code.text,
            ticket=ticket.text,
            expires=status_report.time_text(ticket.expires_s * 10**9),
            code_expires=status_report.time_text(self._agent.runtime.wall_time_ns() + round(closes_in_s * 1e9)),
            id=told.ticket_key.hex(),
            addresses=list(ticket.addresses),
            is_file=is_file,
            stored=is_file and is_stored(folder),
        )

    async def _share_folder(self, path: Path, request: api.ShareRequest) -> tuple[Folder, Ticket]:
        """Invite to the folder at `path`, which is made one if it is none."""
        if request.this_version:
            raise ConfigError("only of one file this version can be shared", path=str(path))
        async with self._setting_up:
            folder = await self._shared_folder(path)
        while folder.loop is None or not folder.loop.scanned or folder.loop.counts()[0]:
            await self._agent.changes.after(self._agent.changes.count)
        ticket = await make_invitation(self._agent, folder, _ROLES[request.role], request.expires_s)
        await reach_relays(self._agent, folder)
        return folder, ticket

    async def _shared_folder(self, path: Path) -> Folder:
        agent = self._agent
        for folder in agent.folders.values():
            if folder.root_path == path:
                return folder
        root = await agent.runtime.in_thread(check_root, path, taken_places(agent))
        home = await agent.runtime.in_thread(
            found_folder, agent.runtime, agent.home.path, agent.keys, root, root.name, agent.options.label
        )
        return await agent.open_made(home)

    async def invitations(self, folder: str) -> api.InvitationList:
        found: list[api.Invitation] = []
        for each in versions_report.folders_of(self._agent, folder):
            found.extend(open_invitations(self._agent, each))
        return api.InvitationList(invitations=found)

    async def revoke(self, request: api.RevokeRequest) -> api.RevokeResult:
        handed = handouts_report.named(self._agent, request.folder)
        if handed:
            return api.RevokeResult(revoked=await take_back(self._agent, handed, request.id))
        found = versions_report.find_folder(self._agent, request.folder)
        return api.RevokeResult(revoked=await revoke(self._agent, found, request.id))

    async def join(self, request: api.JoinRequest, progress: Progress) -> api.JoinResult:
        agent = self._agent
        # Before anything is sent: what is no ticket or code, or too little of one, stays here.
        code = parse_code(request.ticket) if looks_like_code(request.ticket) else None
        found = Exchanged(parse_ticket(request.ticket)) if code is None else None
        async with self._setting_up:
            if code is not None:
                found = await exchange_code(agent, code, request.address)
            assert found is not None
            if found.ticket.role is Role.BACKUP:
                return await self._join_as_backup(found, request.path)
            folder, via = await join_folder(agent, found.ticket, request.path, first=found.relay)
        while True:
            count = agent.changes.count
            state = status_report.folder_state(agent, folder)
            progress(state.done_bytes, state.total_bytes)
            if folder.loop is not None and folder.loop.idle and not folder.joining and not folder.fetcher.pending:
                break
            await agent.changes.after(count)
        place = folder.root_path if folder.handout is None else await arrived(agent, folder)
        names = agent.names()
        inviter = found.ticket.inviter
        route = _route(via)
        return api.JoinResult(
            folder=folder.id.hex(),
            name=folder.name,
            path=str(place),
            device=names.get(inviter, short(inviter)),
            route=route,
            files=state.files,
            bytes=state.bytes,
            is_file=folder.handout is not None,
        )

    async def _join_as_backup(self, found: Exchanged, path: str) -> api.JoinResult:
        kept, via = await join_as_backup(self._agent, found.ticket, path, first=found.relay)
        return api.JoinResult(
            folder=kept.id.hex(),
            name=kept.name,
            path=str(kept.root),
            device=short(found.ticket.inviter),
            route=_route(via),
            files=0,
            bytes=0,
            is_backup=True,
        )

    async def recovery(self) -> api_recovery.RecoveryStatus:
        return recovery_report.status(self._agent)

    async def make_sheet(self, request: api_recovery.SheetRequest) -> api_recovery.Sheet:
        return await recovery_report.make_sheet(self._agent, request)

    async def recover(self, request: api_recovery.RecoverRequest, progress: Progress) -> api_recovery.Recovered:
        async with self._setting_up:
            brought = await bring_back(self._agent, request)
        return await complete(self._agent, brought, progress)

    async def members(self, folder: str) -> api.MemberList:
        return members_report.member_list(self._agent, versions_report.find_folder(self._agent, folder))

    async def verify(self, folder: str, device: str) -> api.SafetyNumber:
        return await self._agent.runtime.in_thread(
            members_report.verify, self._agent, versions_report.find_folder(self._agent, folder), device
        )

    async def change_role(self, request: api.RoleRequest) -> api.RoleResult:
        folder = versions_report.find_folder(self._agent, request.folder)
        return await members_acts.change_role(self._agent, folder, request)

    async def remove(self, request: api.RemovalRequest) -> api.RemovalResult:
        folder = versions_report.find_folder(self._agent, request.folder)
        with self._agent.handouts.kept_open(folder):
            return await members_acts.remove(self._agent, folder, request)

    async def unshare(self, request: api.UnshareRequest) -> api.RemovalResult:
        folder = versions_report.find_folder(self._agent, request.folder)
        with self._agent.handouts.kept_open(folder):
            return await members_acts.unshare(self._agent, folder, request)

    async def leave(self, folder: str) -> api.LeaveResult:
        kept = self._agent.backups.named(folder)
        if kept is not None:
            self._agent.dialer.remove(kept.note.addresses)
            is_there = await self._agent.runtime.in_thread(kept.is_there)
            await self._agent.backups.forget(kept)
            self._agent.refresh()
            return api.LeaveResult(told=kept.parted, was_backup=True, left="" if is_there else str(kept.root))
        left = versions_report.find_folder(self._agent, folder)
        with self._agent.handouts.kept_open(left):
            return await members_acts.leave(self._agent, left)

    async def log(self, folder: str, path: str) -> api.VersionList:
        agent = self._agent
        if not path:
            return await self.versions(folder, False)
        found, inside = (
            versions_report.locate(agent, path)
            if not folder
            else (versions_report.find_folder(agent, folder), tuple(part.encode() for part in Path(path).parts))
        )
        rows = await agent.runtime.in_thread(versions_report.rows_of, found, inside)
        aside = await agent.runtime.in_thread(versions_report.set_aside_here, found, rows)
        return api.VersionList(versions=versions_report.listed(agent, found, rows, aside))

    async def versions(self, folder: str, deleted: bool) -> api.VersionList:
        agent = self._agent
        found: list[api.Version] = []
        for each in versions_report.directories_of(agent, folder):
            rows = await agent.runtime.in_thread(each.replica.versions.all, VERSIONS_LISTED_MAX)
            aside = await agent.runtime.in_thread(versions_report.set_aside_here, each, rows)
            found.extend(versions_report.all_versions(agent, each, rows, aside, deleted))
        return api.VersionList(versions=found)

    async def find(self, name: str, folder: str, deleted: bool) -> api.VersionList:
        agent = self._agent
        found: list[api.Version] = []
        for each in versions_report.directories_of(agent, folder):
            for rows in await agent.runtime.in_thread(versions_report.find_named, each, name, deleted):
                found.append(versions_report.listed(agent, each, rows, ())[0])
        return api.VersionList(versions=found)

    async def snapshot(self, request: api.SnapshotRequest) -> api.SnapshotList:
        return await snapshots.snapshot(self._agent, request)

    async def snapshots(self, folder: str) -> api.SnapshotList:
        return snapshots.snapshots(self._agent, folder)

    async def retention(self, folder: str) -> api_retention.RetentionList:
        return await self._agent.runtime.in_thread(retention_report.retention, self._agent, folder)

    async def set_retention(self, request: api_retention.RetentionRequest) -> api_retention.RetentionList:
        return await retention_report.set_retention(self._agent, request)

    async def collect(self, request: api_retention.CollectRequest) -> api_retention.CollectResult:
        return await retention_report.collect(self._agent, request)

    async def directory(self, path: str, at: str, after: str) -> api.Directory:
        return await self._agent.runtime.in_thread(browsing.directory, self._agent, path, at, after)

    async def compare(self, path: str, since: str, until: str) -> api.Differences:
        return await self._agent.runtime.in_thread(browsing.compare, self._agent, path, since, until)

    async def cat(self, path: str, version: str, at: str) -> AsyncIterator[bytes]:
        agent = self._agent
        if at:
            folder, was = await agent.runtime.in_thread(browsing.file_at, agent, path, at)
            async for piece in version_pieces(agent, folder, was.content, path):
                yield piece
            return
        folder, inside = versions_report.locate(agent, path)
        row = await agent.runtime.in_thread(versions_report.find, folder, inside, version)
        content = unpack_content(row.content)
        if content.kind is not Kind.FILE:
            raise NotFound("this version is not a file", path=path)
        async for piece in version_pieces(agent, folder, content, os.fsdecode(row.path)):
            yield piece

    async def restore(self, request: api.RestoreRequest, progress: Progress) -> api.RestoreResult:
        return await restoring_report.restore(self._agent, request, progress)

    async def undo(self, request: api.UndoRequest, progress: Progress) -> api.UndoResult:
        return await undoing_report.undo(self._agent, request, progress)

    async def conflicts(self, folder: str) -> api.ConflictList:
        found: list[api.Conflict] = []
        for each in versions_report.directories_of(self._agent, folder):
            found.extend(resolving.conflicts(self._agent, each))
        return api.ConflictList(conflicts=found)

    async def resolve(self, request: api.ResolveRequest, progress: Progress) -> api.ResolveResult:
        folder, inside = versions_report.locate(self._agent, request.path)
        return await resolving.resolve(self._agent, folder, inside, request)

    async def held_changes(self, folder: str) -> api.HeldList:
        found: list[api.HeldChange] = []
        apart: list[api.Quarantine] = []
        for each in versions_report.folders_of(self._agent, folder):
            found.extend(held_report.held_changes(self._agent, each))
            apart += await self._agent.runtime.in_thread(quarantine.report, self._agent, each)
        return api.HeldList(held=found, quarantined=apart)

    async def adopt(self, request: api.AdoptRequest, progress: Progress) -> api.AdoptResult:
        folder = versions_report.find_folder(self._agent, request.folder)
        members_acts.require_owner(self._agent, folder)
        device = members_report.find_device(folder, request.device, list(folder.told.names))
        return await quarantine.adopt(self._agent, folder, device, request, progress)

    async def release(self, request: api.HoldRequest) -> api.HoldResult:
        return await self._decide(request.id, Verb.RELEASE)

    async def reject(self, request: api.HoldRequest) -> api.HoldResult:
        return await self._decide(request.id, Verb.REJECT)

    async def _decide(self, hold: str, verb: Verb) -> api.HoldResult:
        folder = held_report.find_held(self._agent, hold)
        check_present(folder)
        assert folder.loop is not None
        decided = await folder.loop.decisions.ask(hold, verb)
        decision: api.Decision = "released" if verb is Verb.RELEASE else "rejected"
        lost = [display(path) for path in decided.lost[:LOST_TOLD_MAX]]
        return api.HoldResult(id=hold, decision=decision, count=decided.count, kept_in=decided.kept_in, lost=lost)

    async def why(self, path: str) -> api.Why:
        folder, inside = versions_report.locate(self._agent, path)
        return explain(self._agent, folder, inside, path)

    async def pause(self, folder: str) -> None:
        for each in versions_report.folders_of(self._agent, folder):
            await each.set_paused(True)
        self._agent.refresh()

    async def resume(self, folder: str) -> None:
        for each in versions_report.folders_of(self._agent, folder):
            await each.set_paused(False)
        self._agent.refresh()

    async def rescan(self, folder: str) -> None:
        for each in versions_report.folders_of(self._agent, folder):
            if each.loop is not None:
                each.loop.look_at(None)
                while each.loop.counts()[0] and each.loop.root_missing is None:
                    await self._agent.changes.after(self._agent.changes.count)
                with contextlib.suppress(MeshsyncError):  # `status` tells why a folder is at a standstill
                    await each.loop.published()

    async def wait(self, request: api.WaitRequest) -> api.WaitResult:
        agent = self._agent
        started = agent.runtime.monotonic()
        folders = versions_report.folders_of(agent, request.folder)
        # What a script wrote just before is told by the watcher within this time.
        await agent.runtime.sleep(WAIT_NOTICE_S)
        try:
            async with asyncio.timeout(request.timeout_s):
                while True:
                    count = agent.changes.count
                    if all(self._waited_for(folder, request.durable) for folder in folders):
                        return api.WaitResult(idle=True, waited_s=agent.runtime.monotonic() - started)
                    await agent.changes.after(count)
        except TimeoutError:
            waiting = [folder.name for folder in folders if not self._waited_for(folder, request.durable)]
            raise PeerTimeout(
                f"not in sync after {request.timeout_s:g} s",
                folder=display(tuple(name.encode() for name in waiting)),
                next_step=_after_waiting(folders),
            ) from None

    def _waited_for(self, folder: Folder, durable: bool) -> bool:
        if folder.is_paused or not status_report.in_sync(self._agent, folder):
            return False
        if handouts_report.is_busy(self._agent, folder):
            return False
        return not durable or (status_report.is_relayed(folder) and not status_report.not_durable(folder))

    async def doctor(self) -> api.DoctorReport:
        return await examine(self._agent)

    async def stop(self) -> None:
        self._agent.stopping.set()


def _route(via: str) -> api.LinkPath:
    """Return how a folder was joined."""
    return "relay" if via == "relay" else ("lan" if via == "lan" else "direct")


def _after_waiting(folders: list[Folder]) -> str:
    """Return what to type after a wait in vain."""
    if any(folder.is_paused for folder in folders):
        return "meshsync resume"
    return "meshsync held" if any(folder.guard.holds for folder in folders) else "meshsync status"
