"""Bringing folders back with the words of a recovery sheet, from a relay alone.

Invariant: words that do not belong together are refused before anything is sent. The sheet's key signs one invitation
for each folder and nothing else; this device gets in by it as an owner with a key of its own. A recovery that was cut
off is begun again and goes on; one that runs twice, here or on another machine, takes nothing from the other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent import api_recovery as api
from meshsync.agent import status_report
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.joining import join_folder
from meshsync.agent.key_ring import keys_from_boxes, open_name
from meshsync.agent.operations import Progress
from meshsync.agent.pairing import ReceivedChain
from meshsync.content.recovery_sheet import parse_sheet, sheet_keys, ticket_secret
from meshsync.content.ticket import SECRET_SIZE_BYTES, Ticket, make_ticket
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, pack_bundle
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MeshsyncError, SheetInvalid, SourceUnavailable, TransientError
from meshsync.ids import FolderId
from meshsync.limits import DIAL_TIMEOUT_S, FOLDERS_LISTED_MAX, NAMES_TRIED_MAX, PAIR_TRIES_MAX, SHEET_TICKET_EXPIRES_S
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import Invite, sign_change
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.roles import Role
from meshsync.transport.base import Link, Policy, Priority
from meshsync.wire.relay_address import RelayAddress, parse_relay_address
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Append,
    Appended,
    AppendResult,
    Attach,
    Attached,
    FolderList,
    ListFolders,
    MembershipPage,
    ReadMembership,
    RecordRefused,
    refusal_error,
)


@dataclass(frozen=True, slots=True)
class Brought:
    """What a recovery found: folders that begin to sync, names of those that were here, and those that failed."""

    folders: list[Folder]
    already: list[str]
    failed: list[api.LostFolder]


async def bring_back(agent: Agent, request: api.RecoverRequest) -> Brought:
    """Make this device an owner of every folder that the sheet owns at the relay, and begin to sync them.

    A folder that cannot be brought back does not keep others from it. Raises SheetInvalid (the words, or no folder
    knows them), ConfigError (the relay's address, the path), TransientError (the relay cannot be reached).
    """
    secret = parse_sheet(request.words)
    address = parse_relay_address(request.relay)
    if address.device is None:
        raise ConfigError(
            "the relay's address lacks its key",
            next_step="Copy the whole line from the sheet: quic://HOST:PORT#…",
        )
    sheet = sheet_keys(secret)
    if address.device not in agent.relays:
        agent.add_relay(address)
    come: list[Folder] = []
    already: list[str] = []
    failed: list[api.LostFolder] = []
    listen = f"{agent.options.listen.rpartition(':')[0] or '0.0.0.0'}:0"
    endpoint = await agent.machine.open_endpoint(agent.runtime, sheet, listen, agent.options.engine or "qh3", Policy())
    try:
        link = await endpoint.dial(address.address, expect=address.device, discovery_key=None, timeout_s=DIAL_TIMEOUT_S)
        found = await _folders(link)
        if not found:
            raise SheetInvalid(
                "no folder at this relay knows these words",
                next_step="Check the words and the relay's address. A sheet that was replaced opens nothing any more.",
            )
        for name in found:
            if name in agent.folders:
                already.append(agent.folders[name].name)
                continue
            try:
                come.append(await _bring(agent, link, address, secret, sheet, name, Path(request.path)))
            except MeshsyncError as error:
                failed.append(api.LostFolder(id=name.hex(), why=str(error)))
    finally:
        await endpoint.close()
    await agent.sheets.adopt(sheet)
    return Brought(come, already, failed)


async def complete(agent: Agent, brought: Brought, progress: Progress) -> api.Recovered:
    """Return when the trees of what was brought back are complete here."""
    while True:
        count = agent.changes.count
        present = [folder for folder in brought.folders if folder.id in agent.folders]
        states = [status_report.folder_state(agent, folder) for folder in present]
        progress(sum(state.done_bytes for state in states), sum(state.total_bytes for state in states))
        if all(status_report.settled(agent, folder) for folder in present):
            break
        await agent.changes.after(count)
    listed = [_recovered(agent, folder) for folder in present]
    return api.Recovered(folders=listed, already=brought.already, failed=brought.failed)


async def _folders(link: Link) -> list[FolderId]:
    """Return the folders of which the link's own device is an enrolled member."""
    found: list[FolderId] = []
    while True:
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(ListFolders(found[-1] if found else b""))
            page = (await conversation.expect(FolderList)).folders
        finally:
            conversation.reset()
        if any(folder <= last for last, folder in itertools.pairwise((found[-1] if found else b"", *page))):
            raise SourceUnavailable("the relay lists folders out of order")
        found += map(FolderId, page)
        if len(page) < FOLDERS_LISTED_MAX:
            return found


async def _bring(
    agent: Agent, link: Link, address: RelayAddress, secret: bytes, sheet: DeviceKeys, name: FolderId, base: Path
) -> Folder:
    """Make this device an owner of one folder, and begin to sync it into a directory of its own below `base`."""
    ticket = make_ticket(
        name,
        sheet.device,
        secret=ticket_secret(secret, name, agent.keys.device, SECRET_SIZE_BYTES),
        role=Role.OWNER,
        expires_s=SHEET_TICKET_EXPIRES_S,
        relays=(address.without_secret().text,),
    )
    keys, membership = await _invite(agent, link, sheet, ticket)
    called = open_name(keys.secret, membership.genesis.folder_name).replace("/", "_").strip(".") or "folder"
    path = await agent.runtime.in_thread(_free_directory, base, called)
    folder, _ = await join_folder(agent, ticket, str(path), first=address.device)
    return folder


async def _invite(agent: Agent, link: Link, sheet: DeviceKeys, ticket: Ticket) -> tuple[FolderKeys, Membership]:
    """Write the invitation of `ticket` into the folder's chain at the relay, unless it is there or was used."""
    refused: MeshsyncError | None = None
    conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
    try:
        await conversation.send(Attach(ticket.folder))
        await conversation.expect(Attached)
        for _ in range(PAIR_TRIES_MAX):
            membership = await _membership(conversation, ticket.folder)
            keys = keys_from_boxes(membership, sheet.device, sheet.box_secret)
            known = ticket.keys.device in membership.invites
            if known or membership.is_member(agent.keys.device):
                return keys, membership
            sealed = box(ticket.keys.box_public, agent.runtime.random_bytes(32), pack_bundle(keys))
            change = Invite(ticket.keys.device, ticket.role, ticket.expires_s, membership.epoch, sealed)
            membership.with_change(sheet.device, change)
            entry = sign_change(sheet, ticket.folder, membership.head, membership.seq + 1, change)
            await conversation.send(Append((LogRecord(int(RecordKind.MEMBERSHIP), entry.data),)))
            outcome = (await conversation.expect(AppendResult)).outcomes[0]
            if isinstance(outcome, Appended | AlreadyThere):
                return keys, membership
            if isinstance(outcome, RecordRefused):  # somebody else's entry came between: read again
                refused = refusal_error(outcome)
    finally:
        conversation.reset()
    raise refused or TransientError("the relay did not take the invitation")


async def _membership(conversation: RelayConversation, folder: FolderId) -> Membership:
    chain = ReceivedChain(folder)
    start, more = 1, True
    while more:
        await conversation.send(ReadMembership(start))
        page = await conversation.expect(MembershipPage)
        chain.add([record.data for record in page.records])
        more = page.more and bool(page.records)
        start = page.records[-1].index + 1 if page.records else start
    if chain.membership is None:
        raise SourceUnavailable("the relay has no membership chain of the folder")
    return chain.membership


def _free_directory(base: Path, name: str) -> Path:
    """Return a directory below `base` that is empty or not there yet: nothing is merged with what lies here."""
    for number in range(1, NAMES_TRIED_MAX):
        path = base / (name if number == 1 else f"{name} ({number})")
        try:
            if not any(path.iterdir()):
                return path
        except FileNotFoundError:
            return path
        except OSError:
            continue
    raise ConfigError("no free name for the folder", path=str(base / name), next_step="Name another directory.")


def _recovered(agent: Agent, folder: Folder) -> api.RecoveredFolder:
    state = status_report.folder_state(agent, folder)
    return api.RecoveredFolder(
        id=folder.id.hex(),
        name=folder.name,
        path=str(folder.root_path),
        files=state.files,
        bytes=state.bytes,
        freshness_unverified=folder.freshness.unverified,
    )
